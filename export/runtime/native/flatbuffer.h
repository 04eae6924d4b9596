// Reads FlatBuffers from untrusted files. Every offset is checked against the file's size before it is followed, so a
// damaged file makes the reader throw `Refused` with a message instead of reading out of bounds.
//
// The format: https://flatbuffers.dev/internals. A table begins with a signed distance back to its vtable. The vtable
// has, for each field, the distance from the table's start to the field, or 0 if the field is absent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "limits.h"

namespace r2b {

// A view of a file's bytes, which must outlive the view.
struct Bytes {
  const uint8_t* data = nullptr;
  size_t size = 0;

  // The value at byte `place`. FlatBuffers are little-endian, as are all machines that this library is built for.
  template <class T>
  T At(size_t place) const {
    if (place > size || size - place < sizeof(T)) throw Outside(place);
    T value;
    std::memcpy(&value, data + place, sizeof(T));
    return value;
  }
  // Returns `place` plus the unsigned 32-bit distance that is stored there.
  size_t Follow(size_t place) const {
    const uint64_t target = uint64_t(place) + At<uint32_t>(place);
    if (target >= size) throw Outside(target);
    return size_t(target);
  }
  Refused Outside(uint64_t place) const {
    return Refused("the file is damaged or was not copied whole: it refers to byte " + std::to_string(place) +
                   ", and has " + std::to_string(size) + " bytes");
  }
};

class FlatTable;

// A vector of numbers, or of distances to tables.
template <class T>
class FlatVector {
 public:
  FlatVector() = default;
  FlatVector(Bytes file, size_t place) : file_(file), start_(place + 4), count_(file.At<uint32_t>(place)) {
    if (count_ > (file.size - start_) / sizeof(T)) throw file.Outside(start_ + uint64_t(count_) * sizeof(T));
  }
  size_t size() const { return count_; }
  T operator[](size_t i) const { return file_.At<T>(start_ + i * sizeof(T)); }
  const uint8_t* data() const { return file_.data + start_; }
  FlatTable table(size_t i) const;

 private:
  Bytes file_;
  size_t start_ = 0, count_ = 0;
};

// A table. A default-constructed one stands for an absent table: all its fields are absent.
class FlatTable {
 public:
  FlatTable() = default;
  FlatTable(Bytes file, size_t place) : file_(file), place_(place) {
    const int64_t fields = int64_t(place) - file.At<int32_t>(place);
    if (fields < 0 || size_t(fields) >= file.size) throw file.Outside(place);
    fields_ = size_t(fields);
    fields_size_ = file.At<uint16_t>(fields_);
  }
  static FlatTable Root(Bytes file) { return {file, file.Follow(0)}; }

  template <class T>
  T Scalar(int field, T absent) const {
    const size_t place = Place(field);
    return place ? file_.At<T>(place) : absent;
  }
  template <class T>
  FlatVector<T> Vector(int field) const {
    const size_t place = Place(field);
    return place ? FlatVector<T>(file_, file_.Follow(place)) : FlatVector<T>();
  }
  FlatTable Table(int field) const {
    const size_t place = Place(field);
    return place ? FlatTable(file_, file_.Follow(place)) : FlatTable();
  }
  std::string Text(int field) const {
    const FlatVector<char> text = Vector<char>(field);
    return text.size() ? std::string(reinterpret_cast<const char*>(text.data()), text.size()) : std::string();
  }

 private:
  // The field's position, or 0 if the field is absent. No field lies at byte 0, where the distance to the root is.
  size_t Place(int field) const {
    const size_t entry = 4 + 2 * size_t(field);
    if (entry + 2 > fields_size_) return 0;
    const uint16_t distance = file_.At<uint16_t>(fields_ + entry);
    return distance ? place_ + distance : 0;
  }

  Bytes file_;
  size_t place_ = 0, fields_ = 0;
  uint16_t fields_size_ = 0;
};

template <class T>
FlatTable FlatVector<T>::table(size_t i) const {
  static_assert(sizeof(T) == 4, "tables are reached by distances of 32 bits");
  return {file_, file_.Follow(start_ + i * sizeof(T))};
}

}  // namespace r2b
