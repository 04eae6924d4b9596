#include "preprocessing.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "json.h"
#include "limits.h"
#include "resample.h"

namespace r2b {
namespace {

constexpr int kFormat = 1;
constexpr char kResize[] = "bicubic, TensorFlow 1 (align_corners=False, half_pixel_centers=False, a=-0.75)";
constexpr int kMostSide = 1 << 15;
constexpr float kLuma[3] = {0.299f, 0.587f, 0.114f};     // red's, green's and blue's shares of grey (ITU-R BT.601)
constexpr float kRangeOfBicubic[2] = {-255.0f, 510.0f};  // bounds of bicubic interpolation of values in 0-255

Refused Damaged(const std::string& reason) {
  return Refused("the preprocessing in the model file is damaged (" + reason + "); convert the model again");
}

class Fields {
 public:
  explicit Fields(const std::string& json) : values_(ParseJsonObject(json)) {}

  // Returns the field and removes it, so that only unknown fields remain for CheckEmpty().
  JsonValue Take(const char* name) {
    const auto found = values_.find(name);
    if (found == values_.end()) throw Damaged(std::string("it has no '") + name + "'");
    JsonValue value = found->second;
    values_.erase(found);
    return value;
  }
  int Whole(const char* name, int most) {
    const JsonValue value = Take(name);
    if (value.kind != JsonValue::kWhole || value.numbers[0] < 1 || value.numbers[0] > most)
      throw Damaged(std::string(name) + " must be a whole number from 1 to " + std::to_string(most));
    return int(value.numbers[0]);
  }
  std::vector<float> PerChannel(const char* name, int channels) {
    const JsonValue value = Take(name);
    if (value.kind != JsonValue::kNumbers || value.numbers.size() != size_t(channels))
      throw Damaged(std::string(name) + " must be " + std::to_string(channels) + " numbers");
    return {value.numbers.begin(), value.numbers.end()};
  }
  void CheckEmpty() const {
    if (!values_.empty()) throw Damaged("it has the unknown field '" + values_.begin()->first + "'");
  }

 private:
  std::map<std::string, JsonValue> values_;
};

// Whether std is finite, and (value - mean) / std is finite for every value that a resized image can have.
bool Normalises(const std::vector<float>& mean, const std::vector<float>& std) {
  for (size_t c = 0; c < mean.size(); ++c)
    for (float value : kRangeOfBicubic)
      if (!std::isfinite((value - mean[c]) / std[c]) || !std::isfinite(std[c])) return false;
  return true;
}

// The image's centre square, whose side is `fraction` of the shorter side.
Image Centre(const Image& image, double fraction) {
  const int side = std::max(int(float(fraction) * float(std::min(image.height, image.width))), 1);
  const ptrdiff_t top = (image.height - side + 1) / 2, left = (image.width - side + 1) / 2;
  return {image.pixels + top * image.stride + left * image.channels, side, side, image.channels, image.stride};
}

// An RGB copy of a grey or RGBA image.
std::vector<uint8_t> Colours(const Image& image) {
  std::vector<uint8_t> colours(size_t(3) * image.height * image.width);
  uint8_t* out = colours.data();
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* pixel = image.pixels + y * image.stride;
    for (int x = 0; x < image.width; ++x, pixel += image.channels)
      for (int c = 0; c < 3; ++c) *out++ = pixel[image.channels == 1 ? 0 : c];
  }
  return colours;
}

// A grey copy of an RGB or RGBA image. Channels are added in NumPy's order.
std::vector<float> Grey(const Image& image) {
  std::vector<float> grey(size_t(image.height) * image.width);
  float* out = grey.data();
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* pixel = image.pixels + y * image.stride;
    for (int x = 0; x < image.width; ++x, pixel += image.channels)
      *out++ = (float(pixel[0]) * kLuma[0] + float(pixel[1]) * kLuma[1]) + float(pixel[2]) * kLuma[2];
  }
  return grey;
}

void CheckImage(const Image& image) {
  if (!image.pixels) throw Refused("the pixels of an image must be given");
  if (image.channels != 1 && image.channels != 3 && image.channels != 4)
    throw Refused("an image must have 1, 3 or 4 channels; received " + std::to_string(image.channels));
  if (std::min(image.height, image.width) < 1 || std::max(image.height, image.width) > kMostPixels)
    throw Refused("an image's height and width must be 1 to " + std::to_string(kMostPixels) + "; received " +
                  std::to_string(image.height) + "x" + std::to_string(image.width));
  const int64_t row = int64_t(image.width) * image.channels;
  if (image.stride < row)
    throw Refused("a row of the image has " + std::to_string(row) +
                  " bytes, so the stride must be at least that, or 0; "
                  "received " +
                  std::to_string(image.stride));
}

}  // namespace

Preprocessing ParsePreprocessing(const std::string& json) {
  Fields fields(json);
  const JsonValue format = fields.Take("format"), resize = fields.Take("resize");
  if (format.kind != JsonValue::kWhole || format.numbers[0] != kFormat || resize.kind != JsonValue::kText ||
      resize.text != kResize)
    throw Refused(
        "the preprocessing in the model file has another format or resizes by another rule than this engine "
        "knows: use a newer one");
  Preprocessing p;
  p.height = fields.Whole("height", kMostSide);
  p.width = fields.Whole("width", kMostSide);
  p.channels = fields.Whole("channels", 3);
  if (p.channels == 2) throw Damaged("channels must be 1 or 3");
  const JsonValue fraction = fields.Take("crop_fraction");
  if (fraction.numbers.size() != 1 || fraction.kind == JsonValue::kNumbers || !(fraction.numbers[0] > 0) ||
      fraction.numbers[0] > 1)
    throw Damaged("crop_fraction must be above 0 and at most 1");
  p.crop_fraction = fraction.numbers[0];
  p.mean = fields.PerChannel("mean", p.channels);
  p.std = fields.PerChannel("std", p.channels);
  if (!Normalises(p.mean, p.std)) throw Damaged("mean and std must be finite in float32 and std not 0");
  fields.CheckEmpty();
  return p;
}

void PrepareImage(const Preprocessing& p, const Kernels* kernels, const Image& image, float* out) {
  CheckImage(image);
  const Image centre = Centre(image, p.crop_fraction);
  const Resizing resizing{p.channels, 1, p.height, p.width, 0, 0, p.mean.data(), p.std.data()};
  const auto resize = [&](const void* pixels, ptrdiff_t stride, bool bytes) {
    Resizing typed = resizing;
    typed.bytes = bytes;
    const ResizedImage resized{int64_t(reinterpret_cast<uintptr_t>(pixels)), stride, centre.height, centre.width, 0};
    Resize(kernels, typed, &resized, 1, out);
  };
  if (image.channels == p.channels) {
    resize(centre.pixels, centre.stride, true);
  } else if (p.channels == 3) {
    resize(Colours(centre).data(), ptrdiff_t(3) * centre.width, true);
  } else {
    resize(Grey(centre).data(), centre.width, false);
  }
}

}  // namespace r2b
