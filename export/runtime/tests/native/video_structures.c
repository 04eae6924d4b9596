/* Prints, from the kernel's own header, what r2b_runtime/watch/v4l2.py defines: the numbers of ioctls and flags, and
 * the bytes of each structure with example values, in hexadecimal. */
#include <linux/videodev2.h>
#include <stdio.h>
#include <string.h>

static void bytes(const char* name, const void* data, size_t size) {
  printf("%s ", name);
  for (size_t i = 0; i < size; ++i) printf("%02x", ((const unsigned char*)data)[i]);
  printf("\n");
}

#define NUMBER(name, value) printf("%s %u\n", name, (unsigned)(value))

int main(void) {
  NUMBER("QUERY_CAPABILITIES", VIDIOC_QUERYCAP);
  NUMBER("LIST_FORMATS", VIDIOC_ENUM_FMT);
  NUMBER("SET_FORMAT", VIDIOC_S_FMT);
  NUMBER("ASK_FOR_BUFFERS", VIDIOC_REQBUFS);
  NUMBER("DESCRIBE_BUFFER", VIDIOC_QUERYBUF);
  NUMBER("GIVE_BUFFER", VIDIOC_QBUF);
  NUMBER("TAKE_BUFFER", VIDIOC_DQBUF);
  NUMBER("START", VIDIOC_STREAMON);
  NUMBER("SET_PARAMETERS", VIDIOC_S_PARM);
  NUMBER("can_capture", V4L2_CAP_VIDEO_CAPTURE);
  NUMBER("can_stream", V4L2_CAP_STREAMING);
  NUMBER("has_device_capabilities", V4L2_CAP_DEVICE_CAPS);
  NUMBER("damaged", V4L2_BUF_FLAG_ERROR);

  struct v4l2_capability able;
  memset(&able, 0, sizeof able);
  able.capabilities = 0x01020304;
  able.device_caps = 0x05060708;
  bytes("CAPABILITY", &able, sizeof able);

  struct v4l2_fmtdesc description;
  memset(&description, 0, sizeof description);
  description.index = 1;
  description.type = 2;
  description.pixelformat = V4L2_PIX_FMT_YUYV;
  bytes("FORMAT_DESCRIPTION", &description, sizeof description);

  struct v4l2_format format;
  memset(&format, 0, sizeof format);
  format.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  format.fmt.pix.width = 640;
  format.fmt.pix.height = 480;
  format.fmt.pix.pixelformat = V4L2_PIX_FMT_MJPEG;
  format.fmt.pix.field = V4L2_FIELD_NONE;
  format.fmt.pix.bytesperline = 1280;
  format.fmt.pix.sizeimage = 614400;
  bytes("FORMAT", &format, sizeof format);

  struct v4l2_streamparm parameters;
  memset(&parameters, 0, sizeof parameters);
  parameters.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  parameters.parm.capture.timeperframe.numerator = 1000;
  parameters.parm.capture.timeperframe.denominator = 7500;
  bytes("STREAM_PARAMETERS", &parameters, sizeof parameters);

  struct v4l2_requestbuffers request;
  memset(&request, 0, sizeof request);
  request.count = 4;
  request.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  request.memory = V4L2_MEMORY_MMAP;
  bytes("REQUEST_BUFFERS", &request, sizeof request);

  struct v4l2_buffer buffer;
  memset(&buffer, 0, sizeof buffer);
  buffer.index = 3;
  buffer.type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
  buffer.bytesused = 12345;
  buffer.flags = V4L2_BUF_FLAG_ERROR;
  buffer.memory = V4L2_MEMORY_MMAP;
  buffer.m.offset = 0x30000;
  buffer.length = 65536;
  bytes("BUFFER", &buffer, sizeof buffer);
  return 0;
}
