/* Simulates a video device for programs that are started with this library in LD_PRELOAD. A program that opens
 * VIDEO_DEVICE gets a file in memory. This library answers the file's ioctls, with the structures and numbers of the
 * kernel's own header. These environment variables configure it:
 *
 *   VIDEO_DEVICE   path of the device
 *   VIDEO_FORMAT   the four letters of the device's only format
 *   VIDEO_FRAME    file with the bytes of a frame; read again for each frame
 *   VIDEO_COUNT    number of frames after which the device is unplugged, until it is opened again
 *   VIDEO_LOG      file that gets a line whenever the device is opened or unplugged, is asked for a format or a frame
 *                  rate, or receives an ioctl that it does not know
 *   VIDEO_META     if set, the device captures only metadata, no frames */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { kBuffers = 3, kLength = 1 << 18, kWidth = 320, kHeight = 240 };

static int device = -1, frames, streaming;
static int owned[kBuffers]; /* whether the device may fill each buffer */

static void log_line(const char* format, ...) {
  FILE* file = fopen(getenv("VIDEO_LOG"), "a");
  va_list values;
  va_start(values, format);
  vfprintf(file, format, values);
  va_end(values);
  fputc('\n', file);
  fclose(file);
}

static unsigned the_format(void) {
  const char* letters = getenv("VIDEO_FORMAT");
  return v4l2_fourcc(letters[0], letters[1], letters[2], letters[3]);
}

static int opened(const char* path) {
  if (strcmp(path, getenv("VIDEO_DEVICE")) != 0) return -2;
  device = memfd_create("video", 0);
  if (ftruncate(device, (long)kBuffers * kLength) != 0) abort();
  frames = streaming = 0;
  memset(owned, 0, sizeof owned);
  log_line("open");
  return device;
}

#define OPEN(name)                                                \
  int name(const char* path, int flags, ...) {                    \
    int found = opened(path);                                     \
    if (found != -2) return found;                                \
    va_list values;                                               \
    va_start(values, flags);                                      \
    int mode = va_arg(values, int);                               \
    va_end(values);                                               \
    int (*real)(const char*, int, ...) = dlsym(RTLD_NEXT, #name); \
    return real(path, flags, mode);                               \
  }
OPEN(open)
OPEN(open64)

static int fail(int error) {
  errno = error;
  return -1;
}

static int set_format(struct v4l2_format* format) {
  if (format->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
  log_line("format %.4s %ux%u", (char*)&format->fmt.pix.pixelformat, format->fmt.pix.width, format->fmt.pix.height);
  format->fmt.pix.pixelformat = the_format(); /* drivers replace a format that they do not have */
  format->fmt.pix.width = kWidth;
  format->fmt.pix.height = kHeight;
  format->fmt.pix.bytesperline = the_format() == V4L2_PIX_FMT_YUYV ? 2 * kWidth : 0;
  format->fmt.pix.sizeimage = kLength;
  return 0;
}

static int take(struct v4l2_buffer* buffer) {
  usleep(20000);
  if (frames++ == atoi(getenv("VIDEO_COUNT"))) {
    log_line("unplugged");
    return fail(ENODEV);
  }
  for (int i = 0; i < kBuffers; ++i) {
    if (!streaming || !owned[i]) continue;
    char* memory = mmap(NULL, kLength, PROT_WRITE, MAP_SHARED, device, (long)i * kLength);
    FILE* file = fopen(getenv("VIDEO_FRAME"), "rb");
    buffer->bytesused = fread(memory, 1, kLength, file);
    fclose(file);
    munmap(memory, kLength);
    buffer->index = i;
    buffer->length = kLength;
    buffer->sequence = frames;
    buffer->flags = frames == 2 ? V4L2_BUF_FLAG_ERROR : 0; /* the second frame is damaged */
    owned[i] = 0;
    return 0;
  }
  return fail(EAGAIN);
}

static int query(struct v4l2_capability* able) {
  memset(able, 0, sizeof *able);
  able->capabilities = V4L2_CAP_DEVICE_CAPS | V4L2_CAP_META_CAPTURE;
  able->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
  if (getenv("VIDEO_META") != NULL) able->device_caps = V4L2_CAP_META_CAPTURE | V4L2_CAP_STREAMING;
  return 0;
}

static int list(struct v4l2_fmtdesc* description) {
  if (description->index > 0 || description->type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
  description->pixelformat = the_format();
  return 0;
}

static int set_rate(const struct v4l2_streamparm* parameters) {
  const struct v4l2_fract* time = &parameters->parm.capture.timeperframe;
  log_line("rate %g", (double)time->denominator / time->numerator);
  return 0;
}

static int reserve(struct v4l2_requestbuffers* request) {
  if (request->type != V4L2_BUF_TYPE_VIDEO_CAPTURE || request->memory != V4L2_MEMORY_MMAP) return fail(EINVAL);
  request->count = kBuffers;
  return 0;
}

static int describe(struct v4l2_buffer* buffer) {
  if (buffer->index >= kBuffers) return fail(EINVAL);
  buffer->m.offset = buffer->index * kLength;
  buffer->length = kLength;
  return 0;
}

static int give(const struct v4l2_buffer* buffer) {
  if (buffer->index >= kBuffers || buffer->memory != V4L2_MEMORY_MMAP || owned[buffer->index]) return fail(EINVAL);
  owned[buffer->index] = 1;
  return 0;
}

static int start(const int* type) {
  if (*type != V4L2_BUF_TYPE_VIDEO_CAPTURE) return fail(EINVAL);
  streaming = 1;
  return 0;
}

static int answer(unsigned long number, void* data) {
  switch ((unsigned)number) {
    case VIDIOC_QUERYCAP: return query(data);
    case VIDIOC_ENUM_FMT: return list(data);
    case VIDIOC_S_FMT: return set_format(data);
    case VIDIOC_S_PARM: return set_rate(data);
    case VIDIOC_REQBUFS: return reserve(data);
    case VIDIOC_QUERYBUF: return describe(data);
    case VIDIOC_QBUF: return give(data);
    case VIDIOC_DQBUF: return take(data);
    case VIDIOC_STREAMON: return start(data);
    default: log_line("unknown %lx", number); return fail(ENOTTY);
  }
}

int ioctl(int descriptor, unsigned long number, ...) {
  va_list values;
  va_start(values, number);
  void* data = va_arg(values, void*);
  va_end(values);
  if (device >= 0 && descriptor == device) return answer(number, data);
  int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
  return real(descriptor, number, data);
}
