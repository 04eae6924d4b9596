// Reads the metadata that r2b_zoo attaches to a model: the names of the classes, and how images are preprocessed. Both
// are files in a ZIP archive that follows the model's own bytes, as TensorFlow Lite's metadata format specifies.
#pragma once

#include <string>
#include <vector>

#include "flatbuffer.h"
#include "preprocessing.h"

namespace r2b {

// Reads an attached file, which has to be stored without compression, as r2b_zoo stores it. False if there is no such
// file. Throws Refused if the archive is damaged, or the file is compressed, encrypted or larger than 16 MiB.
bool AttachedText(Bytes file, const std::string& name, std::string* text);

// The names of the classes, in UTF-8; empty if the model has none. Throws Refused like AttachedText(), and for text
// that is not UTF-8.
std::vector<std::string> ReadLabels(Bytes file);

// Reads how images are preprocessed. False if the model does not say. Throws Refused like ReadLabels(), and for
// preprocessing that is invalid.
bool ReadPreprocessing(Bytes file, Preprocessing* preprocessing);

}  // namespace r2b
