#include "metadata.h"

#include <algorithm>

namespace r2b {
namespace {

constexpr size_t kMostText = size_t(1) << 24;  // bytes; the same limit as in r2b_runtime/attached_files.py

// The records of a ZIP archive (PKWARE's APPNOTE, sections 4.3.7, 4.3.12 and 4.3.16): signatures, sizes and offsets of
// fields.
namespace end {
constexpr uint32_t kSignature = 0x06054B50;
constexpr size_t kSize = 22, kEntries = 10, kDirectorySize = 12, kDirectory = 16, kComment = 20, kMostComment = 65535;
}  // namespace end
namespace entry {
constexpr uint32_t kSignature = 0x02014B50;
constexpr size_t kSize = 46, kFlags = 8, kMethod = 10, kChecksum = 16, kStored = 20, kBytes = 24, kName = 28,
                 kExtra = 30, kComment = 32, kHeader = 42;
}  // namespace entry
namespace local {
constexpr uint32_t kSignature = 0x04034B50;
constexpr size_t kSize = 30, kName = 26, kExtra = 28;
}  // namespace local

Refused Damaged(const std::string& what) {
  return Refused(what + " inside the model is damaged; convert or copy the model again");
}

uint32_t Checksum(const uint8_t* bytes, size_t count) {
  uint32_t state = 0xFFFFFFFF;
  for (size_t i = 0; i < count; ++i) {
    state ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) state = state >> 1 ^ (state & 1 ? 0xEDB88320 : 0);
  }
  return ~state;
}

class Archive {
 public:
  explicit Archive(Bytes file) : file_(file) { Find(); }

  bool Text(const std::string& name, std::string* text) const {
    size_t at = directory_;
    for (int i = 0; i < entries_; ++i) {
      if (file_.At<uint32_t>(at) != entry::kSignature) throw Damaged("the list of attached files");
      const size_t length = file_.At<uint16_t>(at + entry::kName);
      if (Slice(at + entry::kSize, length) == name) return *text = Content(at, name), true;
      at += entry::kSize + length + file_.At<uint16_t>(at + entry::kExtra) + file_.At<uint16_t>(at + entry::kComment);
    }
    return false;
  }

 private:
  // Finds the archive's last record, which says where the list of files is. A comment of up to kMostComment bytes may
  // follow the record, so the search runs backwards from the file's end.
  void Find() {
    if (file_.size < end::kSize) return;
    const size_t last = file_.size - end::kSize, first = last - std::min(last, end::kMostComment);
    for (size_t at = last + 1; at-- > first;) {
      if (file_.At<uint32_t>(at) != end::kSignature ||
          at + end::kSize + file_.At<uint16_t>(at + end::kComment) != file_.size)
        continue;
      entries_ = file_.At<uint16_t>(at + end::kEntries);
      const size_t size = file_.At<uint32_t>(at + end::kDirectorySize),
                   place = file_.At<uint32_t>(at + end::kDirectory);
      if (size > at || place > at - size) throw Damaged("the list of attached files");
      directory_ = at - size;
      shift_ = directory_ - place;  // offsets may count from the archive's beginning or from the file's
      return;
    }
  }

  std::string Slice(size_t at, size_t length) const {
    if (at > file_.size || file_.size - at < length) throw Damaged("the list of attached files");
    return {reinterpret_cast<const char*>(file_.data + at), length};
  }

  std::string Content(size_t at, const std::string& name) const {
    if (file_.At<uint16_t>(at + entry::kMethod) != 0 || file_.At<uint16_t>(at + entry::kFlags) & 1)
      throw Refused(
          name +
          " inside the model is compressed or encrypted, and only stored files are read; convert the model with "
          "r2b_zoo, which stores them");
    const size_t size = file_.At<uint32_t>(at + entry::kBytes);
    if (size > kMostText)
      throw Refused(name + " inside the model has " + std::to_string(size) + " bytes, and at most " +
                    std::to_string(kMostText) + " are read");
    const size_t header = shift_ + file_.At<uint32_t>(at + entry::kHeader);
    if (file_.At<uint32_t>(at + entry::kStored) != size || file_.At<uint32_t>(header) != local::kSignature)
      throw Damaged(name);
    const size_t begin =
        header + local::kSize + file_.At<uint16_t>(header + local::kName) + file_.At<uint16_t>(header + local::kExtra);
    std::string content = Slice(begin, size);
    if (Checksum(reinterpret_cast<const uint8_t*>(content.data()), size) != file_.At<uint32_t>(at + entry::kChecksum))
      throw Damaged(name);
    return content;
  }

  Bytes file_;
  size_t directory_ = 0, shift_ = 0;
  int entries_ = 0;
};

// How many bytes a UTF-8 character that begins with `lead` has; 0 if no character begins with it.
size_t CharacterBytes(uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead < 0xC0 || lead >= 0xF8) return 0;
  return lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// Whether the text is UTF-8 by RFC 3629: no overlong forms, no surrogates, nothing beyond U+10FFFF.
bool IsUtf8(const std::string& text) {
  // The smallest code point that needs as many bytes as the index says.
  constexpr uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  for (size_t i = 0; i < text.size();) {
    const size_t count = CharacterBytes(bytes[i]);
    if (count == 0 || text.size() - i < count) return false;
    uint32_t code = count == 1 ? bytes[i] : bytes[i] & (0x7F >> count);
    for (size_t k = 1; k < count; ++k) {
      if ((bytes[i + k] & 0xC0) != 0x80) return false;
      code = code << 6 | (bytes[i + k] & 0x3F);
    }
    if (code < kLeast[count] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    i += count;
  }
  return true;
}

bool AttachedUtf8(Bytes file, const char* name, std::string* text) {
  if (!AttachedText(file, name, text)) return false;
  if (!IsUtf8(*text)) throw Refused(std::string(name) + " inside the model is not UTF-8 text; convert the model again");
  if (text->compare(0, 3, "\xEF\xBB\xBF") == 0) text->erase(0, 3);  // a byte-order mark
  return true;
}

}  // namespace

bool AttachedText(Bytes file, const std::string& name, std::string* text) { return Archive(file).Text(name, text); }

std::vector<std::string> ReadLabels(Bytes file) {
  std::vector<std::string> labels;
  std::string text;
  if (!AttachedUtf8(file, "labels.txt", &text)) return labels;
  for (size_t at = 0; at <= text.size();) {
    const size_t newline = std::min(text.find('\n', at), text.size());
    if (newline == text.size() && at == newline && !labels.empty()) break;  // a final line end adds no label
    std::string label = text.substr(at, newline - at);
    if (newline < text.size() && !label.empty() && label.back() == '\r') label.pop_back();
    labels.push_back(std::move(label));
    at = newline + 1;
  }
  return labels;
}

bool ReadPreprocessing(Bytes file, Preprocessing* preprocessing) {
  std::string text;
  if (!AttachedUtf8(file, "preprocessing.json", &text)) return false;
  *preprocessing = ParsePreprocessing(text);
  return true;
}

}  // namespace r2b
