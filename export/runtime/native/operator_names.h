// What TensorFlow Lite calls its operators, for messages.
#pragma once

#include <string>

namespace r2b {

// The name of the schema's BuiltinOperator of that number; "operator number N" where this list is too old for it.
std::string BuiltinName(int code);

}  // namespace r2b
