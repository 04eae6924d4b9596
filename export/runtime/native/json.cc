#include "json.h"

#include <algorithm>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "limits.h"

namespace r2b {
namespace {

class Parser {
 public:
  explicit Parser(const std::string& text) : text_(text) {}

  std::map<std::string, JsonValue> Object() {
    std::map<std::string, JsonValue> fields;
    Expect('{');
    if (!Accept('}')) {
      do {
        const std::string name = Text();
        Expect(':');
        fields[name] = Value();
      } while (Accept(','));
      Expect('}');
    }
    SkipSpace();
    if (at_ != text_.size()) throw Unreadable();
    return fields;
  }

 private:
  Refused Unreadable() const {
    return Refused("the JSON inside the model cannot be read at character " + std::to_string(at_ + 1) +
                   "; convert the model again");
  }
  void SkipSpace() { at_ = std::min(text_.find_first_not_of(" \t\r\n", at_), text_.size()); }
  bool Accept(char c) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  void Expect(char c) {
    if (!Accept(c)) throw Unreadable();
  }

  JsonValue Value() {
    SkipSpace();
    JsonValue value;
    if (at_ < text_.size() && text_[at_] == '"') {
      value.text = Text();
    } else if (Accept('[')) {
      value.kind = JsonValue::kNumbers;
      if (Accept(']')) return value;
      do value.numbers.push_back(Number(nullptr));
      while (Accept(','));
      Expect(']');
    } else {
      bool whole = false;
      value.numbers.push_back(Number(&whole));
      value.kind = whole ? JsonValue::kWhole : JsonValue::kNumber;
    }
    return value;
  }

  // Refuses all escapes but \", \\ and \/: the strings that r2b_zoo writes have no others.
  std::string Text() {
    Expect('"');
    std::string text;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] == '\\' && (++at_ >= text_.size() || text_[at_] == 0 || !std::strchr("\"\\/", text_[at_])))
        throw Unreadable();
      text += text_[at_];
    }
    Expect('"');
    return text;
  }

  double Number(bool* whole) {
    SkipSpace();
    const size_t end = std::min(text_.find_first_not_of("+-.0123456789eE", at_), text_.size());
    std::string digits = text_.substr(at_, end - at_);
    if (digits.empty() || digits[0] == '+' || digits[0] == '.') throw Unreadable();
    if (whole) *whole = digits.find_first_of(".eE") == std::string::npos;
    // strtod() expects the decimal point of the program's locale.
    const size_t point = digits.find('.');
    if (point != std::string::npos) digits.replace(point, 1, std::localeconv()->decimal_point);
    char* rest = nullptr;
    const double number = std::strtod(digits.c_str(), &rest);
    if (*rest || !std::isfinite(number)) throw Unreadable();
    at_ = end;
    return number;
  }

  const std::string& text_;
  size_t at_ = 0;
};

}  // namespace

std::map<std::string, JsonValue> ParseJsonObject(const std::string& text) { return Parser(text).Object(); }

}  // namespace r2b
