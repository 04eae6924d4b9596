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
 * Ownership. What a function takes by pointer it copies, if nothing else is said; whoever creates an object frees it.
 * Freeing a model before its engines is allowed: they keep it alive. Freeing NULL does nothing. A text that a function
 * returns lives as long as the object it was asked of, if nothing else is said.
 *
 * Memory. Once an engine has been created, r2b_engine_run takes none and gives none back, but for the first one after
 * fork().
 *
 * Threads. Any thread may call anything. An engine runs one call at a time: a second one meanwhile is an error, so give
 * each thread an engine of its own; engines of one model share its file and its weights in memory. After fork() a child
 * continues with its copies of all objects.
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

typedef enum r2b_type {
  R2B_OTHER = 0,
  R2B_FLOAT32 = 1,
  R2B_INT32 = 2,
  R2B_UINT8 = 3,
  R2B_BOOL = 6,
  R2B_INT8 = 9
} r2b_type;

/* An input or an output. */
typedef struct r2b_tensor {
  int32_t number; /* of the tensor in the file, where other programs know it by that */
  int32_t type;   /* r2b_type */
  int32_t rank;
  int32_t dims[R2B_MOST_DIMENSIONS];
  size_t bytes;
  /* Of an int8 or uint8 tensor: value = scale * (number - zero_point). Else 0. */
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
  int32_t profile;     /* 1: the time of every step is kept, see r2b_engine_step */
} r2b_options;

/* How an image becomes the input: its centre square is cut out, resized by bicubic interpolation, and normalised. */
typedef struct r2b_preprocessing {
  int32_t height, width, channels; /* of the result; channels are 1 (grey) or 3 (red, green, blue) */
  double crop_fraction;            /* the square's side, as a share of the image's shorter side: above 0, at most 1 */
  float mean[3], std[3];           /* per channel, for values of 0 to 255: the result is (value - mean) / std */
} r2b_preprocessing;

/* Pixels of one byte per channel, row by row. */
typedef struct r2b_image {
  const uint8_t* pixels;
  int32_t height, width;
  int32_t channels; /* 1: grey; 3: red, green, blue; 4: these and an alpha that is not read */
  int64_t stride;   /* bytes from one row to the next; 0: the rows follow each other */
} r2b_image;

/* Operators that the engine runs as one. */
typedef struct r2b_step {
  char description[R2B_MOST_TEXT]; /* its kind, the shape of its result, and the operators */
  double seconds;                  /* in all its runs; 0 without r2b_options.profile */
  int64_t runs;
} r2b_step;

/* The library's version, such as "0.1.0", and the R2B_ABI_VERSION that it was compiled with. */
R2B_API const char* r2b_version(void);
R2B_API int32_t r2b_abi_version(void);
/* Names of the kernels that run here, best first, separated by commas. Lives until the thread's next call. */
R2B_API const char* r2b_kernels(void);

/* A model of `size` bytes, which are copied. Checks all of it before it returns. */
R2B_API r2b_model* r2b_model_load(const void* bytes, size_t size, r2b_error* error);
/* The same without a copy, for a file that lies in memory anyhow, such as a microcontroller's flash. The bytes must
 * begin at a multiple of 16, and stay as they are until the model and all its engines have been freed. */
R2B_API r2b_model* r2b_model_borrow(const void* bytes, size_t size, r2b_error* error);
/* The same from a file, which is read once. */
R2B_API r2b_model* r2b_model_open(const char* path, r2b_error* error);
R2B_API void r2b_model_free(r2b_model* model);

/* How many class names the file's metadata has: 0 where there are none, -1 where they cannot be read. */
R2B_API int32_t r2b_model_labels(const r2b_model* model, r2b_error* error);
/* The name of a class, in UTF-8. Lives as long as the model and its engines. */
R2B_API const char* r2b_model_label(const r2b_model* model, int32_t index, r2b_error* error);
/* What the metadata says of preprocessing. Fails where it says nothing. */
R2B_API int r2b_model_preprocessing(const r2b_model* model, r2b_preprocessing* preprocessing, r2b_error* error);

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
/* Prepares an image as the metadata says and sets it as input 0; `place` counts the images of a batch, from 0. */
R2B_API int r2b_engine_set_image(r2b_engine* engine, int32_t place, const r2b_image* image, r2b_error* error);
/* Copies an output's values out as real numbers, whatever its type: as many as its shape says. */
R2B_API int r2b_engine_get_values(r2b_engine* engine, int32_t index, float* values, size_t count, r2b_error* error);
/* Fails unless the model takes images, one input, and answers with a number for each label, one output. */
R2B_API int r2b_engine_check_classifier(const r2b_engine* engine, r2b_error* error);
/* One inference. Inputs that were never set are zeros. */
R2B_API int r2b_engine_run(r2b_engine* engine, r2b_error* error);

/* Bytes that the engine takes beside the file, with weights that it shares with other engines; -1: an error. */
R2B_API int64_t r2b_engine_memory(const r2b_engine* engine, r2b_error* error);
/* Bytes of weights in the order in which kernels read them, which all engines of its model share; -1: an error. */
R2B_API int64_t r2b_engine_weights(const r2b_engine* engine, r2b_error* error);
/* How many steps an inference has (-1: an error), and one of them. A new shape makes new steps. */
R2B_API int32_t r2b_engine_steps(const r2b_engine* engine, r2b_error* error);
R2B_API int r2b_engine_step(const r2b_engine* engine, int32_t index, r2b_step* step, r2b_error* error);

#ifdef __cplusplus
}
#endif

#endif /* R2B_H_ */
