/* The model's file and the images, embedded in the program's flash. */
  .syntax unified
  .section .model, "a"
  .balign 16
  .global r2b_file_begin
r2b_file_begin:
  .incbin R2B_FILE
  .global r2b_file_end
r2b_file_end:
  .balign 4
  .global r2b_images_shape
r2b_images_shape:
  .word R2B_IMAGES_SHAPE
  .global r2b_images
r2b_images:
  .incbin R2B_IMAGES
