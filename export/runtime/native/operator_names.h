// TensorFlow Lite's names of its operators, for messages.
#pragma once

#include <string>

namespace r2b {

// The name of BuiltinOperator number `code` of the schema; "operator number N" if this library does not know it.
std::string BuiltinName(int code);

}  // namespace r2b
