// Reads the little JSON that r2b_zoo attaches to a model: one object of numbers, texts and lists of numbers.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace r2b {

struct JsonValue {
  enum Kind : char { kText, kWhole, kNumber, kNumbers };
  Kind kind = kText;
  std::string text;
  std::vector<double> numbers;  // one, or those of a list
};

// The object's fields by name. Throws Refused where the text is anything else.
std::map<std::string, JsonValue> ParseJsonObject(const std::string& text);

}  // namespace r2b
