/* r2b: runs the `.tflite` files of Larq Compute Engine's converter, without TensorFlow Lite.
 *
 *     r2b_error error;
 *     r2b_model* model = r2b_model_open("digits.tflite", &error);
 *     if (model == NULL) return fail(error.text);
 *     r2b_engine* engine = r2b_engine_create(model, NULL, &error);
 *     if (engine == NULL) return fail(error.text);
 *     r2b_engine_set_input(engine, 0, image, sizeof image, &error);
 *     r2b_engine_run(engine, &error);
 *     r2b_engine_get_output(engine, 0, probabilities, sizeof probabilities, &error);
 *     r2b_engine_free(engine);
 *     r2b_model_free(model);
 *
 * Results. A function that fails returns 0 or NULL (or -1, where its comment says so) and writes a sentence into
 * `*error`; `error` may be NULL. A call with a handle that is NULL or has been freed also fails, and has no other
 * effect.
 *
 * Ownership. Functions copy what they take by pointer, unless their comment says otherwise. Whoever creates an object
 * frees it. A model may be freed before its engines, which keep it alive. Freeing NULL does nothing. A text that a
 * function returns lives as long as the object from which it was requested, unless the comment says otherwise.
 *
 * Memory. r2b_engine_run neither allocates nor frees memory, except in the first call after fork().
 *
 * Threads. Any thread may call any function. An engine runs one call at a time, and a second call fails while the first
 * is running. So give each thread an engine of its own; engines of one model share its file and its weights in memory.
 * After fork() the child can continue to use its copies of all objects.
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

/* Increased when programs that were compiled with an older header can no longer use the library. */
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
  int32_t number; /* the tensor's index in the file, by which other programs know it */
  int32_t type;   /* r2b_type */
  int32_t rank;
  int32_t dims[R2B_MOST_DIMENSIONS];
  size_t bytes; /* of all its values */
  /* For an int8 or uint8 tensor, a stored number q means the value scale * (q - zero_point); a scale of 0 means that
   * the file gives none. For other types both are 0. */
  float scale;
  int32_t zero_point;
  /* The name as the file has it; its encoding is not checked. The text lives as long as the engine. */
  const char* name;
} r2b_tensor;

/* A field that is 0 takes its default. A null pointer instead of the struct means all defaults. */
typedef struct r2b_options {
  size_t size;         /* sizeof(r2b_options), so that later headers can add fields */
  int32_t num_threads; /* 1 to 256; default: 1. At most one thread per usable core runs. */
  const char* kernels; /* one name of r2b_kernels(); default: the environment's R2B_RUNTIME_KERNELS, else the best */
  int64_t max_memory;  /* bytes that the engine may take besides the file; default: 2 GiB */
  int64_t max_work;    /* of an inference, in float products; 32 binary products count as one; default: 200 * 10^9 */
  int32_t profile;     /* 1: measure the time of every step, see r2b_engine_step */
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
  int32_t channels; /* 1: grey; 3: red, green, blue; 4: red, green, blue and alpha, which is not read */
  int64_t stride;   /* bytes from the start of one row to the next; 0: there is no gap between rows */
} r2b_image;

/* A step: operators that the engine runs as one. */
typedef struct r2b_step {
  char description[R2B_MOST_TEXT]; /* its kind, the shape of its result, and the operators */
  double seconds;                  /* of all measured runs together; 0 without r2b_options.profile */
  int64_t runs;                    /* how many runs were measured; 0 without r2b_options.profile */
} r2b_step;

/* The library's version, such as "0.1.0", and the R2B_ABI_VERSION that it was compiled with. */
R2B_API const char* r2b_version(void);
R2B_API int32_t r2b_abi_version(void);
/* The names of the kernels that run here, best first, separated by commas. The text lives until the thread calls
 * this function again or ends. */
R2B_API const char* r2b_kernels(void);

/* Loads a model from `size` bytes, which it copies. Fails if the file is damaged, or has an operator that the engine
 * does not run. Damaged metadata makes only the functions that use it fail. */
R2B_API r2b_model* r2b_model_load(const void* bytes, size_t size, r2b_error* error);
/* The same without a copy, for a file that is in memory anyway, such as in a microcontroller's flash. The bytes must
 * begin at an address that is a multiple of 16, and must not change until the model and all its engines have been
 * freed. */
R2B_API r2b_model* r2b_model_borrow(const void* bytes, size_t size, r2b_error* error);
/* Loads a model from the file at `path`. Fails like r2b_model_load, or if the file cannot be read. */
R2B_API r2b_model* r2b_model_open(const char* path, r2b_error* error);
R2B_API void r2b_model_free(r2b_model* model);

/* How many class names the file's metadata has; 0 if there are none, -1 if they cannot be read. */
R2B_API int32_t r2b_model_labels(const r2b_model* model, r2b_error* error);
/* The name of class `index`, counted from 0, in UTF-8. The text lives until the model and all its engines are freed. */
R2B_API const char* r2b_model_label(const r2b_model* model, int32_t index, r2b_error* error);
/* Reads from the metadata how images are preprocessed. Fails if the metadata does not specify this or is damaged. */
R2B_API int r2b_model_preprocessing(const r2b_model* model, r2b_preprocessing* preprocessing, r2b_error* error);

/* Creates an engine, which runs the model with the shapes that the file has. `options` may be NULL. */
R2B_API r2b_engine* r2b_engine_create(const r2b_model* model, const r2b_options* options, r2b_error* error);
R2B_API void r2b_engine_free(r2b_engine* engine);

/* How many inputs and outputs there are; -1 if `engine` is invalid. */
R2B_API int32_t r2b_engine_inputs(const r2b_engine* engine);
R2B_API int32_t r2b_engine_outputs(const r2b_engine* engine);
/* Describe an input or an output, with its current shape. */
R2B_API int r2b_engine_input(const r2b_engine* engine, int32_t index, r2b_tensor* tensor, r2b_error* error);
R2B_API int r2b_engine_output(const r2b_engine* engine, int32_t index, r2b_tensor* tensor, r2b_error* error);

/* Gives an input another shape, from which the outputs' shapes follow. All values of inputs and outputs become 0. If
 * the call fails, the engine is unchanged. */
R2B_API int r2b_engine_resize(r2b_engine* engine, int32_t input, const int32_t* dims, int32_t rank, r2b_error* error);
/* Copy values into an input, or out of an output. The values lie row by row, channels last. `bytes` must be the size of
 * the tensor. */
R2B_API int r2b_engine_set_input(r2b_engine* engine, int32_t index, const void* values, size_t bytes, r2b_error* error);
R2B_API int r2b_engine_get_output(r2b_engine* engine, int32_t index, void* values, size_t bytes, r2b_error* error);
/* Preprocesses an image as the metadata says and stores it in input 0, at index `place` of the batch, from 0. */
R2B_API int r2b_engine_set_image(r2b_engine* engine, int32_t place, const r2b_image* image, r2b_error* error);
/* Copies values out of an output as floats, whatever its type; `count` must be the number of its elements. If the
 * output has a scale, its 8-bit numbers are dequantised. */
R2B_API int r2b_engine_get_values(r2b_engine* engine, int32_t index, float* values, size_t count, r2b_error* error);
/* Fails unless the model has one input, which takes images, and one output with a number for each label. */
R2B_API int r2b_engine_check_classifier(const r2b_engine* engine, r2b_error* error);
/* Runs one inference. Inputs that were never set are zeros. */
R2B_API int r2b_engine_run(r2b_engine* engine, r2b_error* error);

/* Bytes that the engine takes besides the file, including weights that it shares with other engines; -1 on failure. */
R2B_API int64_t r2b_engine_memory(const r2b_engine* engine, r2b_error* error);
/* Bytes of the packed weights, which all engines of a model share; -1 on failure. */
R2B_API int64_t r2b_engine_weights(const r2b_engine* engine, r2b_error* error);
/* How many steps an inference has (-1 on failure), and a description of one. r2b_engine_resize makes new steps, whose
 * times begin at 0. */
R2B_API int32_t r2b_engine_steps(const r2b_engine* engine, r2b_error* error);
R2B_API int r2b_engine_step(const r2b_engine* engine, int32_t index, r2b_step* step, r2b_error* error);

#ifdef __cplusplus
}
#endif

#endif /* R2B_H_ */
