// Makes the roots of all kinds. Most functions are defined in the file that has the root's name, such as MakeBmaxPool()
// in bmax_pool.cc. MaxBytes and PadBytes are in move_bytes.cc; ToBytes and FromBytes are in bytes.cc. An operator must
// outlive the root made for it.
#pragma once

#include "steps/step.h"

namespace r2b {

std::unique_ptr<RowRoot> MakeBconv(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeFconv(const Graph& graph, const Op& op);
// `source`: the tensor that the root reads. It is the operator's input or, if the root also does the work of a QUANTIZE
// before the operator, the input of the QUANTIZE.
std::unique_ptr<RowRoot> MakeQconv(const Graph& graph, const Op& op, int source);
std::unique_ptr<RowRoot> MakeMaxBytes(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakePadBytes(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeDepthwise(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeTransposeConv(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakePool(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeBmaxPool(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeConcat(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeSlice(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeSurround(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeBilinear(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeLoad();
std::unique_ptr<RowRoot> MakePad();

std::unique_ptr<FlatRoot> MakeDense(const Graph& graph, const Op& op);
std::unique_ptr<FlatRoot> MakeArithmetic(const Graph& graph, const Op& op);
std::unique_ptr<FlatRoot> MakeLogistic(const Graph& graph, const Op& op);
std::unique_ptr<FlatRoot> MakeSoftmax(const Graph& graph, const Op& op);
std::unique_ptr<FlatRoot> MakeCopy(const Graph& graph, const Op& op);
std::unique_ptr<FlatRoot> MakeUnpack(const Graph& graph, const Op& op);
std::unique_ptr<FlatRoot> MakeToBytes(const Graph& graph, const Op& op);
std::unique_ptr<FlatRoot> MakeFromBytes(const Graph& graph, const Op& op);
std::unique_ptr<FlatRoot> MakePackBytes(const Graph& graph, const Op& op);

// If a pooling step is the only reader of a convolution, moves the convolution into the pooling step as its feeder (see
// program.h), provided that RowRoot::may_feed() allows it. Defined in pool.cc.
void FeedWindows(const Graph& graph, std::vector<Step>* steps);

}  // namespace r2b
