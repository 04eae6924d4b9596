// Makes the roots of all kinds. Most roots are in the file of the same name; MaxBytes and PadBytes are in
// move_bytes.cc, ToBytes and FromBytes in bytes.cc. An operator must outlive the root made for it.
#pragma once

#include "steps/step.h"

namespace r2b {

std::unique_ptr<RowRoot> MakeBconv(const Graph& graph, const Op& op);
std::unique_ptr<RowRoot> MakeFconv(const Graph& graph, const Op& op);
// `source`: the tensor that the root reads, which is the operator's input or that of a QUANTIZE that the step absorbs.
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

// Finds the convolutions whose result only one pooling window reads, and makes them the feeders of these windows
// (pool.cc).
void FeedWindows(const Graph& graph, std::vector<Step>* steps);

}  // namespace r2b
