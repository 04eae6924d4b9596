// Reads the subset of JSON that r2b_zoo attaches to models: one object whose values are numbers, strings and lists of
// numbers.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace r2b {

struct JsonValue {
  // kWhole: a number that is written without decimal point or exponent. kNumbers: a list.
  enum Kind : char { kText, kWhole, kNumber, kNumbers };
  Kind kind = kText;
  std::string text;
  std::vector<double> numbers;  // a single number, or those of a list
};

// The object's fields by name. Throws Refused if the text is not such an object.
std::map<std::string, JsonValue> ParseJsonObject(const std::string& text);

}  // namespace r2b
