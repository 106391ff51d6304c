// serialize for batches of small undirected graphs: the walk of trail.h, a thread a graph, so that the bits
// are the CPU's. Not yet measured on a GPU.
//
// Four kernels: the largest graph sizes the threads' scratch; each thread walks its graphs into a staging
// area, where a graph's room is known before its walk; a scan of the lengths gives the offsets; then each
// walk is copied to its place. The host waits twice, for the largest graph and for the total length. A large
// graph is walked right, but by one thread; directed graphs are walked on the CPU only.
//
// Looking at values would wait for the device: offsets are clamped, a start outside its graph is none, and a
// graph with a column that leaves it has no walk. SSLKERNELS_CHECK=1 says so instead, in the CPU's words.
#include "../../common/cuda_tensor.cuh"
#include "core.h"

namespace sslkernels {
namespace {

using walks::Batch;

constexpr int kWalkThreads = 32;   // of a block that walks: their branches part at once
constexpr int kScanThreads = 256;  // of the one block that scans, and of those that survey and copy
constexpr int kCopyThreads = 64;   // of the block that copies a walk
constexpr int64_t kMostWalkers = 8192;
constexpr int64_t kMostScratch = int64_t{1} << 30;  // bytes for all walkers together

// Where one graph lies: its nodes and columns in the batch, clamped into it.
struct Extent {
  int64_t first_node, nodes, first_column, columns;

  // Where its walk is staged; it has room for 2 columns + nodes steps.
  __device__ int64_t staged() const { return 2 * first_column + first_node; }
};

// The first column at or after which sources are at least `node`.
template <class Id>
__device__ int64_t column_of(const Batch<Id>& batch, int64_t node) {
  int64_t low = 0, high = batch.columns;
  while (IN_BOUNDS(low < high)) {
    const int64_t middle = (low + high) / 2;
    if (batch.source()[middle] < node) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

template <class Id>
__device__ int64_t first_column_of(const Batch<Id>& batch, int64_t graph) {
  if (batch.edge_ptr != nullptr) return CLAMPED(batch.edge_ptr[graph], 0, batch.columns);
  if (graph == 0) return 0;
  return graph == batch.graphs ? batch.columns : column_of(batch, batch.graph_ptr[graph]);
}

template <class Id>
__device__ Extent extent_of(const Batch<Id>& batch, int64_t graph, int64_t all_nodes) {
  const int64_t node = CLAMPED(batch.graph_ptr[graph], 0, all_nodes);
  const int64_t next_node = CLAMPED(batch.graph_ptr[graph + 1], node, all_nodes);
  const int64_t column = first_column_of(batch, graph);
  const int64_t next_column = CLAMPED(first_column_of(batch, graph + 1), column, batch.columns);
  return {node, next_node - node, column, next_column - column};
}

// -- kernels
// --------------------------------------------------------------------------------------------------

template <class Id>
__global__ void largest_graph_kernel(Batch<Id> batch, int64_t all_nodes, unsigned long long* largest) {
  const int64_t graph = int64_t{blockIdx.x} * kScanThreads + threadIdx.x;
  if (!IN_BOUNDS(graph < batch.graphs)) return;
  const Extent own = extent_of(batch, graph, all_nodes);
  atomicMax(&largest[0], static_cast<unsigned long long>(own.nodes));
  atomicMax(&largest[1], static_cast<unsigned long long>(own.columns));
}

// What the walkers write: a walk and its length for each graph, and how many graphs have a wrong column.
struct Staging {
  int32_t *nodes, *edges;
  int64_t* steps;
  unsigned long long* wrong;
};

// A walker's memory: `stride` bytes at its number, carved for the largest graph.
struct Scratch {
  char* memory;
  int64_t stride, nodes, columns;
};

template <class Id>
__global__ void walk_kernel(Batch<Id> batch, int64_t all_nodes, Scratch scratch, Staging staging) {
  const int64_t walker = int64_t{blockIdx.x} * kWalkThreads + threadIdx.x;
  const int64_t walkers = int64_t{gridDim.x} * kWalkThreads;
  walks::Workspace workspace;
  walks::carve(workspace, scratch.memory + walker * scratch.stride, scratch.nodes, scratch.columns);
  const Key key = stream_key(batch.seed, batch.step);
  for (int64_t graph = walker; IN_BOUNDS(graph < batch.graphs); graph += walkers) {
    const Extent own = extent_of(batch, graph, all_nodes);
    const walks::Columns<Id> columns{batch.source() + own.first_column, batch.target() + own.first_column,
                                     static_cast<uint32_t>(own.columns), own.first_node,
                                     static_cast<uint32_t>(own.nodes)};
    const int64_t start = batch.start == nullptr ? -1 : batch.start[graph];
    const walks::Manner manner{batch.closed, batch.shuffle, key,
                               batch.sample_ids == nullptr ? graph : batch.sample_ids[graph],
                               IN_BOUNDS(start < own.nodes) ? start : -1};  // below 0: none, too
    const int64_t walked = walks::walk_undirected(columns, own.first_column, workspace, manner,
                                                  staging.nodes + own.staged(), staging.edges + own.staged());
    if (walked < 0) atomicAdd(staging.wrong, 1ull);
    staging.steps[graph] = walked < 0 ? 0 : walked;
  }
}

// The sum of the block's values up to and with this thread's. All threads call it, with a barrier between two
// calls.
__device__ int64_t inclusive_sum(int64_t value) {
  SHARED(int64_t, warp_sums, kScanThreads / kWarp);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int delta = 1; delta < kWarp; delta *= 2) {
    const int64_t below = __shfl_up_sync(kAllLanes, value, delta);
    if (lane >= delta) value += below;
  }
  if (lane == kWarp - 1) warp_sums[warp] = value;
  __syncthreads();
  for (int w = 0; IN_BOUNDS(w < warp); ++w) value += warp_sums[w];
  return value;
}

// ptr[g + 1] = steps of the graphs up to g; one block.
__global__ void offsets_kernel(const int64_t* steps, int64_t graphs, int64_t* ptr) {
  SHARED(int64_t, before, 1);
  if (threadIdx.x == 0) before[0] = ptr[0] = 0;
  for (int64_t first = 0; first < graphs; first += kScanThreads) {
    const int64_t graph = first + threadIdx.x;
    const int64_t sum = inclusive_sum(IN_BOUNDS(graph < graphs) ? steps[graph] : 0);
    if (IN_BOUNDS(graph < graphs)) ptr[graph + 1] = before[0] + sum;
    __syncthreads();
    if (threadIdx.x == kScanThreads - 1) before[0] += sum;
  }
}

template <class Id>
__global__ void copy_kernel(Batch<Id> batch, int64_t all_nodes, Staging staging, const int64_t* ptr,
                            int32_t* nodes, int32_t* edges) {
  for (int64_t graph = blockIdx.x; IN_BOUNDS(graph < batch.graphs); graph += gridDim.x) {
    const int64_t from = extent_of(batch, graph, all_nodes).staged(), to = ptr[graph];
    for (int64_t i = threadIdx.x; IN_BOUNDS(i < ptr[graph + 1] - to); i += kCopyThreads) {
      nodes[to + i] = staging.nodes[from + i];
      edges[to + i] = staging.edges[from + i];
    }
  }
}

// -- host
// -----------------------------------------------------------------------------------------------------

// The batch on the host, where SSLKERNELS_CHECK=1 looks at its values.
template <class Id>
class HostBatch {
 public:
  HostBatch(const Batch<Id>& batch, void* stream)
      : edge_index_(copy_to_host(batch.edge_index, 2 * batch.columns, stream)),
        graph_ptr_(copy_to_host(batch.graph_ptr, batch.graphs + 1, stream)),
        edge_ptr_(copy_given(batch.edge_ptr, batch.graphs + 1, stream)),
        start_(copy_given(batch.start, batch.graphs, stream)),
        batch_(batch) {
    batch_.edge_index = edge_index_.data();
    batch_.graph_ptr = graph_ptr_.data();
    if (batch.edge_ptr != nullptr) batch_.edge_ptr = edge_ptr_.data();
    if (batch.start != nullptr) batch_.start = start_.data();
  }
  const Batch<Id>& batch() const { return batch_; }

 private:
  static std::vector<int64_t> copy_given(const int64_t* values, int64_t count, void* stream) {
    return values == nullptr ? std::vector<int64_t>() : copy_to_host(values, count, stream);
  }

  std::vector<Id> edge_index_;
  std::vector<int64_t> graph_ptr_, edge_ptr_, start_;
  Batch<Id> batch_;
};

Tensor zeros(const Tensor& like, int64_t count) {
  Tensor made = new_tensor(like, {count}, ScalarType::Long);
  torch::stable::fill_(made, 0);
  return made;
}

unsigned long long* counters(Tensor& tensor) {
  return reinterpret_cast<unsigned long long*>(tensor.mutable_data_ptr<int64_t>());
}

struct Sizes {
  unsigned long long nodes, columns;
};

// The scratch of as many walkers as there are graphs, or as fit.
struct Walkers {
  Tensor memory;
  Scratch scratch;
  int64_t blocks;
};

Walkers walkers_for(const Tensor& like, int64_t graphs, const Sizes& largest) {
  Scratch scratch{nullptr, 0, static_cast<int64_t>(largest.nodes), static_cast<int64_t>(largest.columns)};
  walks::Workspace measured;
  scratch.stride = walks::carve(measured, nullptr, scratch.nodes, scratch.columns);
  const int64_t wanted = std::min({graphs, kMostWalkers, kMostScratch / scratch.stride});
  const int64_t blocks = std::max<int64_t>(1, (wanted + kWalkThreads - 1) / kWalkThreads);
  Tensor memory = new_tensor(like, {blocks * kWalkThreads * scratch.stride}, ScalarType::Byte);
  scratch.memory = reinterpret_cast<char*>(memory.mutable_data_ptr<uint8_t>());
  return {memory, scratch, blocks};
}

using Walk = std::tuple<Tensor, Tensor, Tensor>;

template <class Id>
Walk walk_batch(const Batch<Id>& batch, const Tensor& like, void* stream) {
  const auto new_steps = [&](int64_t count) { return new_tensor(like, {count}, ScalarType::Int); };
  std::optional<HostBatch<Id>> host;
  if (values_are_checked()) {
    host.emplace(batch, stream);
    walks::check_offsets(host->batch());
    if (batch.graphs == 0 && batch.columns > 0) walks::explain_columns(host->batch());
  }
  Tensor ptr = zeros(like, batch.graphs + 1);
  if (batch.graphs == 0) return {new_steps(0), new_steps(0), ptr};
  const int64_t all_nodes = std::max<int64_t>(read_back(batch.graph_ptr + batch.graphs, stream), 0);

  Tensor largest = zeros(like, 2), wrong = zeros(like, 1), steps = zeros(like, batch.graphs);
  launch(&largest_graph_kernel<Id>, blocks_for(batch.graphs, kScanThreads), kScanThreads, 0, stream, batch,
         all_nodes, counters(largest));
  const Sizes sizes = read_back(reinterpret_cast<Sizes*>(counters(largest)), stream);
  const Walkers walkers = walkers_for(like, batch.graphs, sizes);
  Tensor staged_nodes = new_steps(2 * batch.columns + all_nodes),
         staged_edges = new_steps(staged_nodes.numel());
  const Staging staging{staged_nodes.mutable_data_ptr<int32_t>(), staged_edges.mutable_data_ptr<int32_t>(),
                        steps.mutable_data_ptr<int64_t>(), counters(wrong)};
  launch(&walk_kernel<Id>, dim3(walkers.blocks), kWalkThreads, 0, stream, batch, all_nodes, walkers.scratch,
         staging);
  if (host.has_value() && read_back(counters(wrong), stream) > 0) walks::explain_columns(host->batch());

  int64_t* offsets = ptr.mutable_data_ptr<int64_t>();
  launch(&offsets_kernel, 1, kScanThreads, 0, stream, staging.steps, batch.graphs, offsets);
  const int64_t total = read_back(offsets + batch.graphs, stream);
  Tensor nodes = new_steps(total), edges = new_steps(total);
  launch(&copy_kernel<Id>, dim3(std::min<int64_t>(batch.graphs, 65535)), kCopyThreads, 0, stream, batch,
         all_nodes, staging, offsets, nodes.mutable_data_ptr<int32_t>(), edges.mutable_data_ptr<int32_t>());
  return {nodes, edges, ptr};
}

Walk serialize_cuda(const Tensor& edge_index, const Tensor& graph_ptr, const std::optional<Tensor>& edge_ptr,
                    bool undirected, bool closed, bool shuffle, const std::optional<Tensor>& start,
                    int64_t seed, int64_t step, const std::optional<Tensor>& sample_ids) {
  if (!undirected)
    throw std::invalid_argument("undirected must be True on CUDA: directed graphs are walked on the CPU");
  const Tensor columns = in_order(edge_index), nodes = in_order(graph_ptr);
  const auto columns_ptr = in_order(edge_ptr), starts = in_order(start), samples = in_order(sample_ids);
  const OnDevice device(edge_index);
  return dispatch_integer(edge_index.scalar_type(), "edge_index", [&](auto zero) {
    using Id = decltype(zero);
    const Batch<Id> batch{columns.const_data_ptr<Id>(),
                          edge_index.size(1),
                          nodes.const_data_ptr<int64_t>(),
                          graph_ptr.size(0) - 1,
                          data_or_null<int64_t>(columns_ptr),
                          data_or_null<int64_t>(starts),
                          data_or_null<int64_t>(samples),
                          undirected,
                          closed,
                          shuffle,
                          seed,
                          step};
    return walk_batch(batch, nodes, device.stream());
  });
}

}  // namespace

SSLK_CUDA_LIBRARY(m) { m.impl("serialize", TORCH_BOX(&serialize_cuda)); }

}  // namespace sslkernels
