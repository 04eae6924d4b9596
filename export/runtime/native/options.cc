#include "options.h"

#include <cerrno>
#include <cstdlib>
#include <limits>
#include <vector>

#include "cores.h"

namespace r2b {
namespace {

// Reads a whole number. False if the text is not one from `least` to `most`.
bool ParseCount(const std::string& text, int64_t least, int64_t most, int64_t* value) {
  char* end;
  errno = 0;
  const long long parsed = std::strtoll(text.c_str(), &end, 10);
  if (end == text.c_str() || *end || errno || parsed < least || parsed > most) return false;
  *value = parsed;
  return true;
}

constexpr int64_t kMostMemory = std::numeric_limits<ptrdiff_t>::max();  // bytes
constexpr int64_t kMostWork = 1000000000;                               // billions of float products

struct Option {
  const char* name;
  std::string rule;  // what a value must be
  // False if the value breaks the rule.
  bool (*set)(Options* options, const std::string& value);
};

const std::vector<Option>& KnownOptions() {
  static const std::vector<Option> known = {
      {"kernels", "",
       [](Options* options, const std::string& value) {
         options->kernels_name = value;
         return true;
       }},
      {"num_threads",
       "a whole number from 1 to " + std::to_string(kMostThreads) + ", or 0 for the interpreter's number of threads",
       [](Options* options, const std::string& value) {
         int64_t number;
         if (!ParseCount(value, 0, kMostThreads, &number)) return false;
         options->threads = int(number);
         return true;
       }},
      {"max_memory", "a whole number of MiB from 1 to " + std::to_string(kMostMemory >> 20),
       [](Options* options, const std::string& value) {
         int64_t number;
         if (!ParseCount(value, 1, kMostMemory >> 20, &number)) return false;
         options->limits.memory = number << 20;
         return true;
       }},
      {"max_work", "a whole number of billions of operations from 1 to " + std::to_string(kMostWork),
       [](Options* options, const std::string& value) {
         int64_t number;
         if (!ParseCount(value, 1, kMostWork, &number)) return false;
         options->limits.work = number * 1000000000;
         return true;
       }},
      {"profile", "0 or 1",
       [](Options* options, const std::string& value) {
         int64_t number;
         if (!ParseCount(value, 0, 1, &number)) return false;
         options->profile = number != 0;
         return true;
       }},
      {"claim", "'all' or 'binary'",
       [](Options* options, const std::string& value) {
         options->claim_float = value == "all";
         return value == "all" || value == "binary";
       }},
  };
  return known;
}

bool SetOption(Options* options, const std::string& name, const std::string& value, std::string* error) {
  for (const Option& option : KnownOptions()) {
    if (name != option.name) continue;
    if (option.set(options, value)) return true;
    *error = "option " + name + " = '" + value + "' must be " + option.rule;
    return false;
  }
  *error =
      "unknown option '" + name + "'; the options are kernels, num_threads, claim, profile, max_memory and max_work";
  return false;
}

}  // namespace

const Kernels* FindKernels(const std::string& name, std::string* error) {
  if (const Kernels* kernels = SelectKernels(name.c_str())) return kernels;
  *error = "kernels '" + name + "' are not built into this library or do not run on this CPU; available: auto";
  for (const char* const* other = AvailableKernels(); *other; ++other) *error += std::string(", ") + *other;
  return nullptr;
}

bool ParseOptions(Options* options, char** names, char** values, size_t count, std::string* error) {
  if (const char* kernels = std::getenv("R2B_RUNTIME_KERNELS")) options->kernels_name = kernels;
  for (size_t i = 0; i < count; ++i)
    if (!SetOption(options, names[i] ? names[i] : "", values[i] ? values[i] : "", error)) return false;
  options->kernels = FindKernels(options->kernels_name, error);
  return options->kernels != nullptr;
}

}  // namespace r2b
