// Makes the table of an instruction set's kernels. The instruction set's file includes this file inside its unnamed
// namespace, after the other .inl files. Only this file lists the kernels that are written once for all vector types.

// Kernels::bconv_scratch for a `bconv` that needs no scratch memory.
inline size_t NoScratch(int, const RunList&) { return 0; }

// V is described in tile.inl, and Q in quantized.inl. The other arguments are fields of Kernels.
template <class V, class Q>
constexpr Kernels KernelsOf(const char* name, int chunk_bits, int max_depth,
                            void (*bconv)(const BconvRow&, const Epilogue&),
                            size_t (*bconv_scratch)(int width, const RunList&) = NoScratch,
                            void (*resample)(const Resample&) = ResampleImage<V>) {
  return {name,
          chunk_bits,
          max_depth,
          bconv_scratch,
          bconv,
          Rows<V>::Fconv,
          Q::kPacking,
          Quantized<V, Q>::Qconv,
          Rows<V>::Depthwise,
          Rows<V>::Pool,
          Rows<V>::Plain,
          Vectors<V>::Dense,
          Vectors<V>::Logistic,
          Vectors<V>::Softmax,
          Vectors<V>::Arithmetic,
          Vectors<V>::Bilinear,
          Vectors<V>::Unpack,
          Vectors<V>::UnpackBytes,
          Vectors<V>::ToBytes,
          Vectors<V>::PackSigns,
          resample,
          V::kPicks};
}
