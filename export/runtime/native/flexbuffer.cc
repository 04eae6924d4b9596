#include "flexbuffer.h"

#include <cstring>

namespace r2b {
namespace {
// Type numbers of the FlexBuffers format. A packed type byte holds one of them in its upper six bits. If an offset
// leads to the value, the lower two bits are log2 of the width in bytes of the numbers stored there.
enum : unsigned {
  kNull = 0,
  kInt = 1,
  kUInt = 2,
  kString = 5,
  kIndirectInt = 6,
  kIndirectUInt = 7,
  kMap = 9,
  kBool = 26
};

bool IsWidth(uint64_t bytes) { return bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8; }
}  // namespace

bool OptionsMap::ReadUnsigned(size_t at, unsigned width, uint64_t* value) const {
  if (at > size_ || width > size_ - at) return false;
  *value = 0;
  for (unsigned i = 0; i < width; ++i) *value |= uint64_t(data_[at + i]) << (8 * i);
  return true;
}

// Offsets point backwards from where they are stored.
bool OptionsMap::Follow(size_t at, unsigned width, size_t* target) const {
  uint64_t offset;
  if (!ReadUnsigned(at, width, &offset) || offset > at) return false;
  *target = at - size_t(offset);
  return true;
}

OptionsMap::OptionsMap(const void* bytes, size_t size) : data_(static_cast<const uint8_t*>(bytes)), size_(size) {
  ok_ = bytes && FindMap() && ReadHeader();
}

// The buffer ends with the root value, its packed type and the root's width.
bool OptionsMap::FindMap() {
  if (size_ < 3) return false;
  const unsigned width = data_[size_ - 1], packed = data_[size_ - 2];
  if (!IsWidth(width) || packed >> 2 != kMap || size_ - 2 < width) return false;
  value_width_ = 1u << (packed & 3);
  return Follow(size_ - 2 - width, width, &values_);
}

// A map stores, before its values: the offset to its (sorted) keys, the width of that key vector, and the number of
// entries.
bool OptionsMap::ReadHeader() {
  if (values_ < 3 * size_t(value_width_)) return false;
  uint64_t count, key_width, key_count;
  if (!ReadUnsigned(values_ - value_width_, value_width_, &count)) return false;
  if (!ReadUnsigned(values_ - 2 * value_width_, value_width_, &key_width) || !IsWidth(key_width)) return false;
  key_width_ = unsigned(key_width);
  if (!Follow(values_ - 3 * value_width_, value_width_, &keys_) || keys_ < key_width_) return false;
  if (!ReadUnsigned(keys_ - key_width_, key_width_, &key_count) || key_count != count) return false;
  // A value, a type byte and a key's offset must fit for each entry. `count` is compared with the size first so that
  // the products cannot overflow.
  if (count > size_ || size_ - values_ < count * (value_width_ + 1) || size_ - keys_ < count * key_width_) return false;
  count_ = size_t(count);
  return true;
}

bool OptionsMap::KeyEquals(size_t at, const char* key) const {
  const size_t length = std::strlen(key) + 1;
  return at <= size_ && length <= size_ - at && std::memcmp(data_ + at, key, length) == 0;
}

bool OptionsMap::Find(const char* key, Value* value) const {
  if (!ok_) return false;
  for (size_t i = 0; i < count_; ++i) {
    size_t at;
    if (!Follow(keys_ + i * key_width_, key_width_, &at)) return false;
    if (!KeyEquals(at, key)) continue;
    *value = {values_ + i * value_width_, uint8_t(value_width_), data_[values_ + count_ * value_width_ + i]};
    return true;
  }
  return false;
}

bool OptionsMap::GetInt(const char* key, int64_t* result) const {
  Value value;
  if (!Find(key, &value)) return false;
  const unsigned type = value.packed_type >> 2;
  size_t at = value.at;
  unsigned width = value.parent_width;
  if (type == kIndirectInt || type == kIndirectUInt) {
    if (!Follow(value.at, width, &at)) return false;
    width = 1u << (value.packed_type & 3);
  } else if (type != kInt && type != kUInt && type != kBool) {
    return false;
  }
  uint64_t raw;
  if (!ReadUnsigned(at, width, &raw)) return false;
  const bool is_signed = type == kInt || type == kIndirectInt;
  if (is_signed && width < 8 && (raw >> (8 * width - 1))) raw |= ~uint64_t(0) << (8 * width);
  *result = int64_t(raw);
  return true;
}

bool OptionsMap::GetString(const char* key, std::string* result) const {
  Value value;
  if (!Find(key, &value) || value.packed_type >> 2 != kString) return false;
  const unsigned width = 1u << (value.packed_type & 3);
  size_t at;
  uint64_t length;
  if (!Follow(value.at, value.parent_width, &at) || at < width) return false;
  if (!ReadUnsigned(at - width, width, &length) || length > size_ - at) return false;
  result->assign(reinterpret_cast<const char*>(data_ + at), size_t(length));
  return true;
}

}  // namespace r2b
