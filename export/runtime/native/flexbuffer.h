// Reads the options of a custom operator: a FlexBuffer whose root is a map from names to numbers and strings.
//
// The bytes come from a model file and are not trusted. Every offset and width is checked against the buffer before it
// is used. If the map is malformed, the methods return false and do not read out of bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace r2b {

class OptionsMap {
 public:
  // The bytes must outlive the map.
  OptionsMap(const void* bytes, size_t size);

  // False if the root is not a well-formed map.
  bool ok() const { return ok_; }

  // Reads the integer or Boolean at `key`. False if the key is missing or has a value of another type.
  bool GetInt(const char* key, int64_t* value) const;
  // Reads the string at `key`. False if the key is missing or has a value of another type.
  bool GetString(const char* key, std::string* value) const;

 private:
  struct Value {
    size_t at;
    uint8_t parent_width;
    uint8_t packed_type;
  };
  bool FindMap();
  bool ReadHeader();
  bool Find(const char* key, Value* value) const;
  bool ReadUnsigned(size_t at, unsigned width, uint64_t* value) const;
  bool Follow(size_t at, unsigned width, size_t* target) const;
  bool KeyEquals(size_t at, const char* key) const;

  const uint8_t* data_;
  size_t size_;
  bool ok_ = false;
  size_t keys_ = 0, values_ = 0, count_ = 0;
  unsigned key_width_ = 1, value_width_ = 1;
};

}  // namespace r2b
