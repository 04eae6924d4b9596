#include "memory.h"

namespace r2b {

void Memory::Prepare(Graph* graph, Program* program, Budget* budget, int threads) {
  storage_.assign(graph->tensors.size(), Storage{});
  PadInputs(graph, program, &storage_);
  PlaceTensors(*graph, budget);
  PlaceOuter(*graph, budget);
  LayOutPixels(*graph, *program, threads, &storage_);
  SetBases(*graph, LayOutArena(*graph, *program, &storage_, budget));
}

// Computes strides and sizes, including borders. The budget checks a padded tensor before its sizes are multiplied, so
// that the products cannot overflow.
void Memory::PlaceTensors(const Graph& graph, Budget* budget) {
  for (size_t t = 0; t < storage_.size(); ++t) {
    Storage& s = storage_[t];
    const Tensor& tensor = graph.tensors[t];
    const Shape shape = AsImage(tensor.dims);
    const int64_t width = int64_t(shape.w) + s.border.left + s.border.right,
                  height = int64_t(shape.h) + s.border.top + s.border.bottom;
    if (s.border.any())
      budget->TakeMemory(s.padded_for, Count(shape.n) * height * width * shape.c * ByteSize(tensor.type),
                         "the input " + DimsText(tensor.dims) + ", padded to " + std::to_string(height) + "x" +
                             std::to_string(width) + ",");
    s.pixel = ptrdiff_t(shape.c) * ByteSize(tensor.type);
    s.row = ptrdiff_t(width) * s.pixel;
    s.image = ptrdiff_t(height) * s.row;
    // [N, C] is read both as one image of N pixels and as N images of one pixel, so every stride is one pixel.
    if (tensor.dims.size() <= 2) s.row = s.image = s.pixel;
    s.bytes = size_t(shape.n) * size_t(height) * size_t(width) * size_t(shape.c) * size_t(ByteSize(tensor.type));
    if (tensor.constant) s.base = static_cast<uint8_t*>(const_cast<void*>(tensor.constant));
  }
}

void Memory::PlaceOuter(const Graph& graph, Budget* budget) {
  for (const auto* list : {&graph.inputs, &graph.outputs})
    for (int t : *list) {
      storage_[t].external = true;
      const Tensor& tensor = graph.tensors[t];
      budget->TakeMemory(
          -1, Elements(tensor.dims) * ByteSize(tensor.type),
          std::string(list == &graph.inputs ? "an input" : "an output") + " of " + DimsText(tensor.dims));
    }
}

void Memory::SetBases(const Graph& graph, size_t arena_bytes) {
  arena_.Assign(arena_bytes);
  halos_.clear();
  for (size_t t = 0; t < storage_.size(); ++t) {
    Storage& s = storage_[t];
    if (graph.tensors[t].constant || s.external) continue;
    if (s.border.any()) {
      halos_.emplace_back();
      halos_.back().Assign(s.bytes);
      s.base = halos_.back().data() + s.border.top * s.row + s.border.left * s.pixel;
    } else if (s.written) {
      s.base = arena_.data() + storage_[s.alias >= 0 ? size_t(s.alias) : t].offset;
    }
  }
}

void Memory::Resolve(const Step& step, const StagePlan& plan, int image, int y, Stage* stage) const {
  stage->kind = plan.kind;
  stage->lo = plan.lo;
  stage->hi = plan.hi;
  stage->scale = plan.scale;
  stage->zero_point = plan.zero_point;
  stage->output = plan.output;
  stage->pixel = stage->gap = stage->row = 0;
  stage->before = plan.before;
  stage->windows = plan.windows;
  // Kernels compute addresses before they look at the kind. The addresses of a stage without operands are never used,
  // but must not be computed from null.
  stage->in = stage->out = reinterpret_cast<uint8_t*>(stage);
  if (plan.constant) {
    stage->in = reinterpret_cast<const uint8_t*>(plan.constant->data());
  } else if (plan.tensor >= 0) {
    const Storage& s = storage_[plan.tensor];
    // Without a border there are no gaps between rows or images. So the step's shape gives their strides, even if a
    // RESHAPE has given the tensor another shape.
    const bool fixed = s.border.any() || !plan.per_pixel;
    const ptrdiff_t row = fixed || s.gap ? s.row : step.out.w * s.pixel;
    const ptrdiff_t next = fixed ? s.image : step.out.h * row;
    // The tensor between a window and its feeder has no memory of its own: its rows are in the ring buffer.
    if (s.base) stage->in = stage->out = s.base + (plan.per_image ? image * next : 0) + (plan.per_pixel ? y * row : 0);
    stage->pixel = plan.per_pixel ? s.pixel : 0;
    stage->row = plan.per_pixel ? row : 0;
    stage->gap = s.gap;
  }
}

void Memory::NextRow(const Step& step, std::vector<Stage>* stages) {
  for (size_t s = 0; s < step.stages.size(); ++s) {
    Stage& stage = (*stages)[s];
    stage.in += stage.row;
    stage.out += stage.row;
  }
}

void Memory::Resolve(const Step& step, int image, int y, std::vector<Stage>* stages) const {
  for (size_t s = 0; s < step.stages.size(); ++s) Resolve(step, step.stages[s], image, y, &(*stages)[s]);
}

}  // namespace r2b
