// Kernels with one fault each, and kernels without: python_tests/test_emulation.py runs them by name on the
// emulated GPU, plain and under the sanitizers, and sees the first caught and the second pass.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <vector>

#include "../common/cuda.cuh"

namespace sslkernels {
namespace {

constexpr int kThreads = 64;

struct Data {
  int* x;    // kThreads * 2 values 0, 1, 2, ...
  int* out;  // as many zeros
};

// -- races ------------------------------------------------------------------------------------------------

__global__ void read_before_write(Data data) {
  SHARED(int, part, kThreads);
  const int thread = threadIdx.x;
  part[thread] = data.x[thread];
  data.out[thread] = part[kThreads - 1 - thread];
}

__global__ void write_after_read(Data data) {
  SHARED(int, part, kThreads);
  const int thread = threadIdx.x;
  part[thread] = data.x[thread];
  __syncthreads();
  const int other = part[kThreads - 1 - thread];
  part[thread] = other;
  __syncthreads();
  data.out[thread] = part[thread];
}

__global__ void write_write(Data data) {
  SHARED(int, part, 1);
  part[0] = static_cast<int>(threadIdx.x) / kThreads;
  __syncthreads();
  data.out[threadIdx.x] = part[0];
}

__global__ void race_between_blocks(Data data) {
  if (threadIdx.x == 0) data.out[0] = static_cast<int>(blockIdx.x);
}

// A shuffle orders no memory, although no fiber runs on before all have come.
__global__ void shuffle_for_a_barrier(Data data) {
  SHARED(int, part, kWarp);
  const int lane = threadIdx.x % kWarp;
  if (static_cast<int>(threadIdx.x) < kWarp) {
    part[lane] = data.x[lane];
    __shfl_xor_sync(kAllLanes, lane, 1);
    data.out[lane] = part[lane ^ 1];
  }
}

// -- bounds -----------------------------------------------------------------------------------------------

__global__ void shared_overflow(Data data) {
  SHARED(int, part, kThreads);
  part[threadIdx.x + 1] = data.x[threadIdx.x];
  __syncthreads();
  data.out[threadIdx.x] = part[0];
}

__global__ void shared_underflow(Data data) {
  SHARED(int, part, kThreads);
  part[threadIdx.x] = 1;
  __syncthreads();
  data.out[threadIdx.x] = part[static_cast<int>(threadIdx.x) - 1];
}

__global__ void dynamic_overflow(Data data) {
  int* part = dynamic_shared<int>();
  part[threadIdx.x + 1] = 1;
  data.out[threadIdx.x] = 0;
}

__global__ void global_overflow(Data data) { data.out[2 * kThreads + threadIdx.x] = 1; }

__global__ void global_read_overflow(Data data) { data.out[threadIdx.x] = data.x[threadIdx.x * 3]; }

// -- barriers ---------------------------------------------------------------------------------------------

__global__ void returned_before_barrier(Data data) {
  if (threadIdx.x == 7) return;
  __syncthreads();
  data.out[threadIdx.x] = 1;
}

__global__ void different_barriers(Data data) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  data.out[threadIdx.x] = 1;
}

__global__ void barrier_too_often(Data data) {
  for (unsigned i = 0; i <= threadIdx.x / 32; ++i) __syncthreads();
  data.out[threadIdx.x] = 1;
}

__global__ void returned_lane_in_mask(Data data) {
  if (threadIdx.x == 5) return;
  data.out[threadIdx.x] = __shfl_down_sync(kAllLanes, data.x[threadIdx.x], 1);
}

__global__ void outside_its_own_mask(Data data) {
  data.out[threadIdx.x] = __shfl_sync(0x0000ffffu, data.x[threadIdx.x], 0);
}

__global__ void shuffle_beside_ballot(Data data) {
  if (threadIdx.x % 2 == 0) {
    data.out[threadIdx.x] = __shfl_sync(kAllLanes, 1, 0);
  } else {
    data.out[threadIdx.x] = static_cast<int>(__ballot_sync(kAllLanes, 1));
  }
}

__global__ void lane_that_does_not_exist(Data data) { data.out[0] = __any_sync(kAllLanes, data.x[0]); }

__global__ void too_much_shared(Data data) {
  SHARED(double, part, 48 * 1024 / 8 + 1);
  part[threadIdx.x] = 1;
  data.out[threadIdx.x] = static_cast<int>(part[threadIdx.x]);
}

// -- right ones: out[0] is what they must give ------------------------------------------------------------

__global__ void tree_sum(Data data) {
  SHARED(int, part, kThreads);
  const int thread = threadIdx.x;
  part[thread] = data.x[thread];
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (thread < half) part[thread] += part[thread + half];
    __syncthreads();
  }
  if (thread == 0) data.out[blockIdx.x] = part[0];
}

__global__ void warp_sum(Data data) {
  int* warps = dynamic_shared<int>();
  int value = data.x[threadIdx.x];
  for (int delta = kWarp / 2; delta > 0; delta /= 2) value += __shfl_down_sync(kAllLanes, value, delta);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = value;
  __syncthreads();
  if (threadIdx.x == 0) data.out[blockIdx.x] = warps[0] + warps[1];
}

__global__ void atomic_sum(Data data) {
  atomicAdd(&data.out[0], data.x[threadIdx.x]);
  atomicMax(&data.out[1], data.x[threadIdx.x]);
}

__global__ void votes(Data data) {
  const bool odd = threadIdx.x % 2 == 1;
  const unsigned halves = threadIdx.x % kWarp < 16 ? 0x0000ffffu : 0xffff0000u;
  int found = __syncthreads_count(odd) == kThreads / 2;
  found += __syncthreads_or(threadIdx.x == 3) && !__syncthreads_and(odd);
  found += __ballot_sync(kAllLanes, odd) == 0xaaaaaaaau && __popc(__ballot_sync(halves, 1)) == 16;
  found += __any_sync(kAllLanes, odd) && !__all_sync(kAllLanes, odd);
  found += __shfl_up_sync(kAllLanes, threadIdx.x % kWarp, 1) ==
           (threadIdx.x % kWarp == 0 ? 0 : threadIdx.x % kWarp - 1);
  found += __shfl_xor_sync(halves, 2.5, 4, 16) == 2.5;
  if (found == 6) atomicAdd(&data.out[0], 1);
}

__global__ void warp_turns(Data data) {
  SHARED(int, part, kThreads);
  const int lane = threadIdx.x % kWarp, first = static_cast<int>(threadIdx.x) - lane;
  part[threadIdx.x] = data.x[threadIdx.x];
  for (int turn = 0; turn < kWarp; ++turn) {
    __syncwarp();
    const int next = part[first + (lane + 1) % kWarp];
    __syncwarp();
    part[threadIdx.x] = next;
  }
  atomicAdd(&data.out[0], part[threadIdx.x] == data.x[threadIdx.x]);
}

struct Entry {
  const char* name;
  void (*kernel)(Data);
  int threads, blocks, result;
};

#define FAULT(name) Entry{#name, &name, kThreads, 2, -1}
const Entry kEntries[] = {
    FAULT(read_before_write),
    FAULT(write_after_read),
    FAULT(write_write),
    FAULT(race_between_blocks),
    FAULT(shuffle_for_a_barrier),
    FAULT(shared_overflow),
    FAULT(shared_underflow),
    FAULT(dynamic_overflow),
    FAULT(global_overflow),
    FAULT(global_read_overflow),
    FAULT(returned_before_barrier),
    FAULT(different_barriers),
    FAULT(barrier_too_often),
    FAULT(returned_lane_in_mask),
    FAULT(outside_its_own_mask),
    FAULT(shuffle_beside_ballot),
    {"lane_that_does_not_exist", &lane_that_does_not_exist, 40, 1, -1},
    FAULT(too_much_shared),
    {"empty_grid", &tree_sum, kThreads, 0, -1},
    {"block_too_large", &tree_sum, 1025, 1, -1},
    {"tree_sum", &tree_sum, kThreads, 2, kThreads * (kThreads - 1) / 2},
    {"warp_sum", &warp_sum, kThreads, 2, kThreads * (kThreads - 1) / 2},
    {"atomic_sum", &atomic_sum, kThreads, 3, 3 * kThreads * (kThreads - 1) / 2},
    {"votes", &votes, kThreads, 2, 2 * kThreads},
    {"warp_turns", &warp_turns, kThreads, 2, 2 * kThreads},
};

int run(const Entry& entry) {
  std::vector<int> x(2 * kThreads), out(2 * kThreads);
  for (int i = 0; i < 2 * kThreads; ++i) x[i] = i;
  launch(entry.kernel, entry.blocks, entry.threads, kThreads * sizeof(int), nullptr,
         Data{x.data(), out.data()});
  std::printf("%s gave %d\n", entry.name, out[0]);
  return entry.result < 0 || out[0] == entry.result ? 0 : 1;
}

}  // namespace
}  // namespace sslkernels

// faults NAME: 0 where the kernel ran and gave what it must, 3 where the launch threw.
int main(int count, char** words) {
  try {
    for (const auto& entry : sslkernels::kEntries) {
      if (count == 2 && std::strcmp(words[1], entry.name) == 0) return sslkernels::run(entry);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 3;
  }
  std::fprintf(stderr, "no such kernel\n");
  return 2;
}
