// Reads the subset of JSON that r2b_zoo attaches to models: one object whose values are numbers, strings or lists of
// numbers.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace r2b {

struct JsonValue {
  // kWhole: a number without decimal point or exponent. kNumber: any other number. kNumbers: a list of numbers.
  enum Kind : char { kText, kWhole, kNumber, kNumbers };
  Kind kind = kText;
  std::string text;
  std::vector<double> numbers;  // the number, or all numbers of the list; empty for kText
};

// Returns the object's fields by name. Throws Refused if the text is not an object of this subset.
std::map<std::string, JsonValue> ParseJsonObject(const std::string& text);

}  // namespace r2b
