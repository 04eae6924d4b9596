// What r2b_zoo attaches to a model: the names of the classes, and how an image becomes the input. They are files in a
// ZIP archive behind the model's own bytes, as TensorFlow Lite's metadata says.
#pragma once

#include <string>
#include <vector>

#include "flatbuffer.h"
#include "preprocessing.h"

namespace r2b {

// The text of an attached file that is stored without compression, as r2b_zoo writes it. False where there is no such
// file. Throws Refused for an archive that is damaged, and for a file that is compressed or larger than 16 MiB.
bool AttachedText(Bytes file, const std::string& name, std::string* text);

// The names of the classes, in UTF-8; none where the model has no such file. Throws Refused.
std::vector<std::string> ReadLabels(Bytes file);

// False where the model has no such file. Throws Refused.
bool ReadPreprocessing(Bytes file, Preprocessing* preprocessing);

}  // namespace r2b
