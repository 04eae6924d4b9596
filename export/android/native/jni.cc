// Implements the native methods of zoo.r2b.Native by calls to r2b.h and to the delegate.
//
// The Java code keeps the addresses of native objects and makes sure that no object is used while it is freed or
// afterwards (Handle.java). It also checks the sizes of images and passes only ranges that lie within its buffers. An
// error of the engine becomes an EngineException with the same message. Arrays are pinned only while they are copied or
// while one image is prepared.
#include <jni.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <string>
#include <vector>

#include "boundary.h"
#include "r2b.h"
#include "tflite_abi.h"

// The delegate's entry points, see delegate.cc.
extern "C" tfl::Delegate* tflite_plugin_create_delegate(char** keys, char** values, size_t count,
                                                        void (*report_error)(const char*));
extern "C" void tflite_plugin_destroy_delegate(tfl::Delegate* delegate);

namespace {

// Copies a text into a new byte[] of UTF-8, since JNI's functions for Java strings use a modified UTF-8. Returns null,
// with a Java exception pending, if memory ran out.
jbyteArray Bytes(JNIEnv* env, const char* text) {
  const auto length = jsize(std::strlen(text));
  jbyteArray bytes = env->NewByteArray(length);
  if (bytes) env->SetByteArrayRegion(bytes, 0, length, reinterpret_cast<const jbyte*>(text));
  return bytes;
}

// Makes Java throw an EngineException when the native method returns, unless an exception is pending already.
void Throw(JNIEnv* env, const char* sentence) {
  if (env->ExceptionCheck()) return;
  jclass type = env->FindClass("zoo/r2b/EngineException");
  if (!type) return;
  jmethodID make = env->GetMethodID(type, "<init>", "([B)V");
  if (!make) return;
  jbyteArray text = Bytes(env, sentence);
  if (!text) return;
  if (jobject thrown = env->NewObject(type, make, text)) env->Throw(static_cast<jthrowable>(thrown));
}

// Runs `body`. If it throws a C++ exception, the Java method throws an EngineException.
template <class Body>
void Guarded(JNIEnv* env, const Body& body) {
  if (std::string error; !r2b::Contained(&error, body)) Throw(env, error.empty() ? "out of memory" : error.c_str());
}

// Calls a function of r2b.h that returns 0 on failure. If it fails, the Java method throws an EngineException.
template <class Function, class... Arguments>
void Call(JNIEnv* env, Function function, Arguments... arguments) {
  r2b_error error;
  if (!function(arguments..., &error)) Throw(env, error.text);
}

r2b_engine* EngineAt(jlong address) { return reinterpret_cast<r2b_engine*>(intptr_t(address)); }
r2b_model* ModelAt(jlong address) { return reinterpret_cast<r2b_model*>(intptr_t(address)); }
template <class T>
jlong AddressOf(T* object) {
  return jlong(reinterpret_cast<intptr_t>(object));
}

// Pins an array during the object's lifetime. No JNI function may be called during this time. values() is null if
// pinning failed.
class Pinned {
 public:
  Pinned(JNIEnv* env, jarray array, jint release) : env_(env), array_(array), release_(release) {
    count_ = size_t(env->GetArrayLength(array));
    values_ = env->GetPrimitiveArrayCritical(array, nullptr);
  }
  ~Pinned() {
    if (values_) env_->ReleasePrimitiveArrayCritical(array_, values_, release_);
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  void* values() const { return values_; }
  size_t count() const { return count_; }

 private:
  JNIEnv* env_;
  jarray array_;
  const jint release_;
  size_t count_ = 0;
  void* values_ = nullptr;
};

constexpr jint kKeep = 0, kDiscard = JNI_ABORT;  // whether Java gets what was written into a pinned array

// Pins the array and calls `body(values, count, error)`, which returns 0 and sets the error if it fails, like the
// functions of r2b.h. If pinning or `body` fails, the Java method throws an EngineException.
template <class Body>
void WithArray(JNIEnv* env, jarray array, jint release, const Body& body) {
  r2b_error error{};
  bool done;
  {
    const Pinned pinned(env, array, release);
    done = pinned.values() && body(pinned.values(), pinned.count(), &error);
  }
  if (!done) Throw(env, *error.text ? error.text : "out of memory");
}

// The address of byte `from` of a direct buffer. If Java gives no address, returns null with an exception pending.
uint8_t* BufferAt(JNIEnv* env, jobject buffer, jlong from) {
  auto* first = static_cast<uint8_t*>(env->GetDirectBufferAddress(buffer));
  if (!first) Throw(env, "this Java virtual machine gives no addresses of direct buffers; pass an array");
  return first ? first + from : nullptr;
}

// Prepares the image at `pixels` and sets it in input 0, at index `place` of the batch. Returns 0 if it fails.
int SetImage(jlong engine, jint place, const void* pixels, jint width, jint height, jint channels, jint stride,
             r2b_error* error) {
  r2b_image image{};
  image.pixels = static_cast<const uint8_t*>(pixels);
  image.height = height;
  image.width = width;
  image.channels = channels;
  image.stride = stride;
  return r2b_engine_set_image(EngineAt(engine), place, &image, error);
}

// Copies the texts of a Java byte[][].
std::vector<std::string> Texts(JNIEnv* env, jobjectArray arrays) {
  std::vector<std::string> texts;
  for (jsize i = 0; i < env->GetArrayLength(arrays); ++i) {
    auto* bytes = static_cast<jbyteArray>(env->GetObjectArrayElement(arrays, i));
    std::string text(size_t(env->GetArrayLength(bytes)), 0);
    env->GetByteArrayRegion(bytes, 0, jsize(text.size()), reinterpret_cast<jbyte*>(&text[0]));
    texts.push_back(text);
    env->DeleteLocalRef(bytes);
  }
  return texts;
}

// Copies the text of a Java byte[].
std::string Text(JNIEnv* env, jbyteArray bytes) {
  std::string text(size_t(env->GetArrayLength(bytes)), 0);
  env->GetByteArrayRegion(bytes, 0, jsize(text.size()), reinterpret_cast<jbyte*>(&text[0]));
  return text;
}

// The delegate's error callback stores its message here. The callback has no user-data argument, so the pointer is
// global, and the mutex lets only one thread at a time create a delegate.
std::mutex delegate_mutex;
std::string* delegate_error = nullptr;

}  // namespace

#define R2B_JNI(type, name) extern "C" JNIEXPORT type JNICALL Java_zoo_r2b_Native_##name

R2B_JNI(jbyteArray, version)(JNIEnv* env, jclass) { return Bytes(env, r2b_version()); }

R2B_JNI(jbyteArray, kernels)(JNIEnv* env, jclass) { return Bytes(env, r2b_kernels()); }

R2B_JNI(jlong, loadModel)(JNIEnv* env, jclass, jbyteArray file) {
  r2b_model* model = nullptr;
  r2b_error error{};
  // Not pinned, since reading a model takes so long that it would hold up the garbage collector.
  if (jbyte* bytes = env->GetByteArrayElements(file, nullptr)) {
    model = r2b_model_load(bytes, size_t(env->GetArrayLength(file)), &error);
    env->ReleaseByteArrayElements(file, bytes, JNI_ABORT);
  }
  if (!model) Throw(env, *error.text ? error.text : "out of memory");
  return AddressOf(model);
}

R2B_JNI(jlong, loadModelBuffer)(JNIEnv* env, jclass, jobject buffer, jlong from, jlong bytes) {
  r2b_model* model = nullptr;
  if (const uint8_t* first = BufferAt(env, buffer, from)) {
    r2b_error error;
    model = r2b_model_load(first, size_t(bytes), &error);
    if (!model) Throw(env, error.text);
  }
  return AddressOf(model);
}

R2B_JNI(jlong, openModel)(JNIEnv* env, jclass, jbyteArray path) {
  r2b_model* model = nullptr;
  Guarded(env, [&] {
    r2b_error error;
    model = r2b_model_open(Text(env, path).c_str(), &error);
    if (!model) Throw(env, error.text);
  });
  return AddressOf(model);
}

R2B_JNI(void, freeModel)(JNIEnv*, jclass, jlong model) { r2b_model_free(ModelAt(model)); }

R2B_JNI(jobjectArray, labels)(JNIEnv* env, jclass, jlong model) {
  r2b_error error;
  const int32_t count = r2b_model_labels(ModelAt(model), &error);
  if (count < 0) Throw(env, error.text);
  jclass bytes = count < 0 ? nullptr : env->FindClass("[B");
  jobjectArray labels = bytes ? env->NewObjectArray(count, bytes, nullptr) : nullptr;
  for (int32_t i = 0; labels && i < count; ++i) {
    const char* label = r2b_model_label(ModelAt(model), i, &error);
    if (!label) Throw(env, error.text);
    jbyteArray text = label ? Bytes(env, label) : nullptr;
    if (!text) return nullptr;
    env->SetObjectArrayElement(labels, i, text);
    env->DeleteLocalRef(text);  // a native method may hold only a limited number of references
  }
  return labels;
}

R2B_JNI(jdoubleArray, preprocessing)(JNIEnv* env, jclass, jlong model) {
  r2b_preprocessing how{};
  r2b_error error;
  if (!r2b_model_preprocessing(ModelAt(model), &how, &error)) {
    Throw(env, error.text);
    return nullptr;
  }
  jdouble numbers[4 + 2 * 3] = {jdouble(how.height), jdouble(how.width), jdouble(how.channels), how.crop_fraction};
  std::copy_n(how.mean, how.channels, numbers + 4);
  std::copy_n(how.std, how.channels, numbers + 4 + how.channels);
  const jsize count = 4 + 2 * how.channels;
  jdoubleArray array = env->NewDoubleArray(count);
  if (array) env->SetDoubleArrayRegion(array, 0, count, numbers);
  return array;
}

R2B_JNI(jlong, createEngine)
(JNIEnv* env, jclass, jlong model, jint threads, jbyteArray kernels, jlong max_memory, jlong max_work) {
  r2b_engine* engine = nullptr;
  Guarded(env, [&] {
    const std::string name = kernels ? Text(env, kernels) : "";
    r2b_options options{};
    options.size = sizeof options;
    options.num_threads = threads;
    options.kernels = kernels ? name.c_str() : nullptr;
    options.max_memory = max_memory;
    options.max_work = max_work;
    r2b_error error;
    engine = r2b_engine_create(ModelAt(model), &options, &error);
    if (!engine) Throw(env, error.text);
  });
  return AddressOf(engine);
}

R2B_JNI(void, freeEngine)(JNIEnv*, jclass, jlong engine) { r2b_engine_free(EngineAt(engine)); }

R2B_JNI(jint, count)(JNIEnv*, jclass, jlong engine, jboolean outputs) {
  return outputs ? r2b_engine_outputs(EngineAt(engine)) : r2b_engine_inputs(EngineAt(engine));
}

R2B_JNI(jlongArray, describe)(JNIEnv* env, jclass, jlong engine, jboolean output, jint index) {
  r2b_tensor tensor;
  r2b_error error;
  if (!(output ? r2b_engine_output : r2b_engine_input)(EngineAt(engine), index, &tensor, &error)) {
    Throw(env, error.text);
    return nullptr;
  }
  int32_t scale;
  std::memcpy(&scale, &tensor.scale, sizeof scale);
  jlong numbers[5 + R2B_MOST_DIMENSIONS] = {tensor.number, tensor.type, jlong(tensor.bytes), tensor.zero_point, scale};
  std::copy_n(tensor.dims, tensor.rank, numbers + 5);
  jlongArray array = env->NewLongArray(5 + tensor.rank);
  if (array) env->SetLongArrayRegion(array, 0, 5 + tensor.rank, numbers);
  return array;
}

R2B_JNI(jbyteArray, name)(JNIEnv* env, jclass, jlong engine, jboolean output, jint index) {
  r2b_tensor tensor;
  r2b_error error;
  if ((output ? r2b_engine_output : r2b_engine_input)(EngineAt(engine), index, &tensor, &error))
    return Bytes(env, tensor.name);
  Throw(env, error.text);
  return nullptr;
}

R2B_JNI(void, resize)(JNIEnv* env, jclass, jlong engine, jint input, jintArray shape) {
  Guarded(env, [&] {
    std::vector<int32_t> dims(size_t(env->GetArrayLength(shape)));
    env->GetIntArrayRegion(shape, 0, jsize(dims.size()), dims.data());
    Call(env, r2b_engine_resize, EngineAt(engine), input, dims.data(), int32_t(dims.size()));
  });
}

R2B_JNI(void, setFloats)(JNIEnv* env, jclass, jlong engine, jint input, jfloatArray values) {
  WithArray(env, values, kDiscard, [&](const void* first, size_t count, r2b_error* error) {
    return r2b_engine_set_input(EngineAt(engine), input, first, count * sizeof(float), error);
  });
}

R2B_JNI(void, setBytes)(JNIEnv* env, jclass, jlong engine, jint input, jbyteArray values) {
  WithArray(env, values, kDiscard, [&](const void* first, size_t count, r2b_error* error) {
    return r2b_engine_set_input(EngineAt(engine), input, first, count, error);
  });
}

R2B_JNI(void, setBuffer)(JNIEnv* env, jclass, jlong engine, jint input, jobject values, jlong from, jlong bytes) {
  if (const uint8_t* first = BufferAt(env, values, from))
    Call(env, r2b_engine_set_input, EngineAt(engine), input, first, size_t(bytes));
}

R2B_JNI(void, setArgb)(JNIEnv* env, jclass, jlong engine, jint place, jintArray colors, jint width, jint height) {
  Guarded(env, [&] {
    std::vector<uint8_t> rgb(size_t(3) * size_t(width) * size_t(height));
    WithArray(env, colors, kDiscard, [&](const void* values, size_t, r2b_error*) {
      const auto* color = static_cast<const uint32_t*>(values);
      for (size_t i = 0; i < rgb.size(); i += 3, ++color) {
        rgb[i] = uint8_t(*color >> 16);
        rgb[i + 1] = uint8_t(*color >> 8);
        rgb[i + 2] = uint8_t(*color);
      }
      return true;
    });
    if (!env->ExceptionCheck()) Call(env, SetImage, engine, place, rgb.data(), width, height, 3, 0);
  });
}

R2B_JNI(void, setPixels)
(JNIEnv* env, jclass, jlong engine, jint place, jbyteArray pixels, jint width, jint height, jint channels,
 jint stride) {
  WithArray(env, pixels, kDiscard, [&](const void* first, size_t, r2b_error* error) {
    return SetImage(engine, place, first, width, height, channels, stride, error);
  });
}

R2B_JNI(void, setPixelBuffer)
(JNIEnv* env, jclass, jlong engine, jint place, jobject pixels, jint width, jint height, jint channels, jint stride) {
  if (const uint8_t* first = BufferAt(env, pixels, 0))
    Call(env, SetImage, engine, place, first, width, height, channels, stride);
}

R2B_JNI(void, checkClassifier)(JNIEnv* env, jclass, jlong engine) {
  Call(env, r2b_engine_check_classifier, EngineAt(engine));
}

R2B_JNI(void, run)(JNIEnv* env, jclass, jlong engine) { Call(env, r2b_engine_run, EngineAt(engine)); }

R2B_JNI(void, getValues)(JNIEnv* env, jclass, jlong engine, jint output, jfloatArray values) {
  WithArray(env, values, kKeep, [&](void* first, size_t count, r2b_error* error) {
    return r2b_engine_get_values(EngineAt(engine), output, static_cast<float*>(first), count, error);
  });
}

R2B_JNI(void, getBytes)(JNIEnv* env, jclass, jlong engine, jint output, jbyteArray values) {
  WithArray(env, values, kKeep, [&](void* first, size_t count, r2b_error* error) {
    return r2b_engine_get_output(EngineAt(engine), output, first, count, error);
  });
}

R2B_JNI(void, getBuffer)(JNIEnv* env, jclass, jlong engine, jint output, jobject values, jlong from, jlong bytes) {
  if (uint8_t* first = BufferAt(env, values, from))
    Call(env, r2b_engine_get_output, EngineAt(engine), output, first, size_t(bytes));
}

R2B_JNI(jlong, createDelegate)(JNIEnv* env, jclass, jobjectArray keys, jobjectArray values) {
  tfl::Delegate* delegate = nullptr;
  Guarded(env, [&] {
    std::vector<std::string> names = Texts(env, keys), settings = Texts(env, values);
    std::vector<char*> name_pointers, setting_pointers;
    for (std::string& name : names) name_pointers.push_back(&name[0]);
    for (std::string& setting : settings) setting_pointers.push_back(&setting[0]);
    std::string error;
    const std::lock_guard<std::mutex> lock(delegate_mutex);
    delegate_error = &error;
    delegate = tflite_plugin_create_delegate(name_pointers.data(), setting_pointers.data(), names.size(),
                                             [](const char* sentence) { *delegate_error = sentence; });
    delegate_error = nullptr;
    if (!delegate) Throw(env, error.empty() ? "out of memory" : error.c_str());
  });
  return AddressOf(delegate);
}

R2B_JNI(void, destroyDelegate)(JNIEnv*, jclass, jlong delegate) {
  tflite_plugin_destroy_delegate(reinterpret_cast<tfl::Delegate*>(intptr_t(delegate)));
}
