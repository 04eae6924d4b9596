// The functions of r2b.h that concern models: loading them, and reading their metadata.
#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "c_api.h"
#include "export.h"

void r2b_model::ReadMetadata() {
  const auto tried = [](std::string* error, const auto& body) {
    try {
      body();
    } catch (const r2b::Refused& refused) {
      *error = refused.what();
    }
  };
  tried(&labels_error, [&] { labels = r2b::ReadLabels(model.file()); });
  tried(&preprocessing_error, [&] { has_preprocessing = r2b::ReadPreprocessing(model.file(), &preprocessing); });
}

namespace r2b {
namespace {

constexpr size_t kMostFile = size_t(1) << 31;  // bytes; the format's own limit

std::vector<uint8_t> ReadFile(const char* path) {
  if (!path) throw Refused("the path of a model must be given");
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path, "rb"), std::fclose);
  if (!file) throw Refused(std::string("cannot read ") + path + ": " + std::strerror(errno));
  std::vector<uint8_t> bytes;
  uint8_t chunk[1 << 16];
  while (const size_t read = std::fread(chunk, 1, sizeof chunk, file.get())) {
    bytes.insert(bytes.end(), chunk, chunk + read);
    if (bytes.size() > kMostFile)
      throw Refused(std::string(path) + " is larger than 2 GiB, the most that a model can have");
  }
  if (std::ferror(file.get())) throw Refused(std::string("cannot read ") + path + ": " + std::strerror(errno));
  return bytes;
}

template <class File>
r2b_model* Loaded(File file) {
  return Models::Instance().Add(std::make_shared<r2b_model>(std::move(file)));
}

// Checks the bytes that a caller passes. Throws Refused if they are null or too many for a model.
Bytes Given(const void* bytes, size_t size) {
  if (!bytes) throw Refused("the bytes of a model must be given");
  if (size > kMostFile) throw Refused("the file is larger than 2 GiB, the most that a model can have");
  return {static_cast<const uint8_t*>(bytes), size};
}

}  // namespace

void Copy(const std::string& text, char* out, size_t room) {
  size_t length = std::min(text.size(), room - 1);
  if (length < text.size())
    while (length > 0 && (text[length] & 0xC0) == 0x80) --length;
  std::memcpy(out, text.data(), length);
  out[length] = 0;
}

void Tell(r2b_error* error, const std::string& sentence) {
  if (error) Copy(sentence, error->text, sizeof error->text);
}

const Preprocessing& PreprocessingOf(const r2b_model& model) {
  if (!model.preprocessing_error.empty()) throw Refused(model.preprocessing_error);
  if (!model.has_preprocessing)
    throw Refused(
        "the model has no preprocessing metadata: convert it with r2b_zoo.convert(model, preprocessing=...), or "
        "prepare the input yourself");
  return model.preprocessing;
}

std::shared_ptr<r2b_model> Found(const r2b_model* model) {
  auto found = Models::Instance().Find(model);
  if (!found) throw Refused("this is not a model, or the model has been freed");
  return found;
}

}  // namespace r2b

const char* r2b_version(void) { return R2B_VERSION; }

int32_t r2b_abi_version(void) { return R2B_ABI_VERSION; }

r2b_model* r2b_model_load(const void* bytes, size_t size, r2b_error* error) {
  r2b_model* made = nullptr;
  r2b::Tried(error, [&] {
    const r2b::Bytes given = r2b::Given(bytes, size);
    made = r2b::Loaded(std::vector<uint8_t>(given.data, given.data + given.size));
  });
  return made;
}

r2b_model* r2b_model_borrow(const void* bytes, size_t size, r2b_error* error) {
  r2b_model* made = nullptr;
  r2b::Tried(error, [&] { made = r2b::Loaded(r2b::Given(bytes, size)); });
  return made;
}

r2b_model* r2b_model_open(const char* path, r2b_error* error) {
  r2b_model* made = nullptr;
  r2b::Tried(error, [&] { made = r2b::Loaded(r2b::ReadFile(path)); });
  return made;
}

void r2b_model_free(r2b_model* model) { r2b::Models::Instance().Remove(model); }

int32_t r2b_model_labels(const r2b_model* model, r2b_error* error) {
  int32_t count = -1;
  r2b::Tried(error, [&] {
    const auto found = r2b::Found(model);
    if (!found->labels_error.empty()) throw r2b::Refused(found->labels_error);
    count = int32_t(found->labels.size());
  });
  return count;
}

const char* r2b_model_label(const r2b_model* model, int32_t index, r2b_error* error) {
  const char* label = nullptr;
  r2b::Tried(error, [&] {
    const auto found = r2b::Found(model);
    if (!found->labels_error.empty()) throw r2b::Refused(found->labels_error);
    if (index < 0 || size_t(index) >= found->labels.size())
      throw r2b::Refused("the model has " + std::to_string(found->labels.size()) +
                         " labels, numbered from 0; received " + std::to_string(index));
    label = found->labels[index].c_str();
  });
  return label;
}

int r2b_model_preprocessing(const r2b_model* model, r2b_preprocessing* preprocessing, r2b_error* error) {
  return r2b::Tried(error, [&] {
    const auto found = r2b::Found(model);
    r2b::CheckPointer(preprocessing, "the preprocessing");
    const r2b::Preprocessing& from = r2b::PreprocessingOf(*found);
    *preprocessing = {from.height, from.width, from.channels, from.crop_fraction, {}, {}};
    std::copy(from.mean.begin(), from.mean.end(), preprocessing->mean);
    std::copy(from.std.begin(), from.std.end(), preprocessing->std);
  });
}
