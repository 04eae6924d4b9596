/* r2b: runs the `.tflite` files of Larq Compute Engine's converter, without TensorFlow Lite.
 *
 *     r2b_error error;
 *     r2b_model* model = r2b_model_open("digits.tflite", &error);
 *     r2b_engine* engine = r2b_engine_create(model, NULL, &error);
 *     if (engine == NULL) return fail(error.text);
 *     r2b_engine_set_input(engine, 0, image, sizeof image, &error);
 *     r2b_engine_run(engine, &error);
 *     r2b_engine_get_output(engine, 0, probabilities, sizeof probabilities, &error);
 *     r2b_engine_free(engine);
 *     r2b_model_free(model);
 *
 * Results. A function that can fail returns 0 or NULL where it did, and writes a sentence into `*error`, which may be
 * NULL. A handle that was freed, or NULL, is such an error too, and nothing else happens.
 *
 * Ownership. What a function takes by pointer it copies; whoever creates an object frees it. Freeing a model before its
 * engines is allowed: they keep it alive. Freeing NULL does nothing.
 *
 * Threads. Any thread may call anything. An engine runs one call at a time: a second one meanwhile is an error, so give
 * each thread an engine of its own; engines of one model share its file in memory. After fork() a child goes on with
 * its copies of all objects.
 */
#ifndef R2B_H_
#define R2B_H_

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define R2B_API __declspec(dllexport)
#else
#define R2B_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Grows when a program that was compiled with an older header could not use the library. */
#define R2B_ABI_VERSION 1

enum { R2B_MOST_DIMENSIONS = 8, R2B_MOST_TEXT = 512 };

typedef struct r2b_model r2b_model;
typedef struct r2b_engine r2b_engine;

/* Why a call failed: a sentence in UTF-8 that ends with a zero byte. */
typedef struct r2b_error {
  char text[R2B_MOST_TEXT];
} r2b_error;

typedef enum r2b_type { R2B_OTHER = 0, R2B_FLOAT32 = 1, R2B_INT32 = 2, R2B_BOOL = 6, R2B_INT8 = 9 } r2b_type;

/* An input or an output. */
typedef struct r2b_tensor {
  int32_t number; /* of the tensor in the file, where other programs know it by that */
  int32_t type;   /* r2b_type */
  int32_t rank;
  int32_t dims[R2B_MOST_DIMENSIONS];
  size_t bytes;
  /* Of an int8 tensor: value = scale * (number - zero_point). Else 0. */
  float scale;
  int32_t zero_point;
  /* As the file has it, in whatever encoding; lives as long as the engine. */
  const char* name;
} r2b_tensor;

/* Zero, or absent as a whole, means the default. */
typedef struct r2b_options {
  size_t size;         /* sizeof(r2b_options), so that later headers can have more */
  int32_t num_threads; /* 1 to 256; default 1. No more than there are cores to run them take part. */
  const char* kernels; /* of r2b_kernels(); default: the environment's R2B_RUNTIME_KERNELS, else the best */
  int64_t max_memory;  /* bytes that the engine may take beside the file; default: 2 GiB */
  int64_t max_work;    /* operations of one inference: float products, or 32 binary ones; default: 200 * 10^9 */
} r2b_options;

/* The library's version, such as "0.1.0", and the R2B_ABI_VERSION that it was compiled with. */
R2B_API const char* r2b_version(void);
R2B_API int32_t r2b_abi_version(void);
/* Names of the kernels that run here, best first, separated by commas. Lives until the thread's next call. */
R2B_API const char* r2b_kernels(void);

/* A model of `size` bytes, which are copied. Checks all of it before it returns. */
R2B_API r2b_model* r2b_model_load(const void* bytes, size_t size, r2b_error* error);
/* The same from a file, which is read once. */
R2B_API r2b_model* r2b_model_open(const char* path, r2b_error* error);
R2B_API void r2b_model_free(r2b_model* model);

/* What runs a model, ready to run with the shapes that the file has. `options` may be NULL. */
R2B_API r2b_engine* r2b_engine_create(const r2b_model* model, const r2b_options* options, r2b_error* error);
R2B_API void r2b_engine_free(r2b_engine* engine);

/* How many inputs and outputs there are; -1 for no engine. */
R2B_API int32_t r2b_engine_inputs(const r2b_engine* engine);
R2B_API int32_t r2b_engine_outputs(const r2b_engine* engine);
/* One of them, with its present shape. */
R2B_API int r2b_engine_input(const r2b_engine* engine, int32_t index, r2b_tensor* tensor, r2b_error* error);
R2B_API int r2b_engine_output(const r2b_engine* engine, int32_t index, r2b_tensor* tensor, r2b_error* error);

/* Gives an input another shape; outputs follow. Inputs and outputs lose their values. Where it fails the engine is as
 * it was before. */
R2B_API int r2b_engine_resize(r2b_engine* engine, int32_t input, const int32_t* dims, int32_t rank, r2b_error* error);
/* Copies an input's values in, or an output's out: as many bytes as the tensor has, row by row, channels last. */
R2B_API int r2b_engine_set_input(r2b_engine* engine, int32_t index, const void* values, size_t bytes, r2b_error* error);
R2B_API int r2b_engine_get_output(r2b_engine* engine, int32_t index, void* values, size_t bytes, r2b_error* error);
/* One inference. Inputs that were never set are zeros. */
R2B_API int r2b_engine_run(r2b_engine* engine, r2b_error* error);

#ifdef __cplusplus
}
#endif

#endif /* R2B_H_ */
