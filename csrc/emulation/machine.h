// The emulated GPU: runs the threads of a block as fibers of the calling OS thread, one at a time.
// A fiber runs until it waits in a barrier or a warp operation, or returns. See README.md beside this file.
#pragma once

#include <cstddef>
#include <cstdint>

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3() = default;
  template <class X>
  dim3(X x_, unsigned y_ = 1, unsigned z_ = 1) : x(static_cast<unsigned>(x_)), y(y_), z(z_) {}
};

namespace sslkernels::emulation {

struct Launch {
  dim3 grid, block;
  size_t dynamic_bytes = 0;
  void (*body)(void* arguments) = nullptr;
  void* arguments = nullptr;
};

// What a thread waits for. Threads meet when kind, mask, file and line are the same.
enum class Kind { kBlockBarrier, kWarpBarrier, kShuffle, kBallot };

struct Place {
  const char* file;
  int line;
};

// The running thread as its kernel sees it.
struct Position {
  dim3 thread, block;
  unsigned lane;
  const Launch* launch;
};
const Position& here();

// Runs every block of a grid. Throws std::runtime_error where threads can never meet, naming two of them and
// their lines, and std::invalid_argument for a size that no GPU would launch.
void run(const Launch& launch);

// Waits until every thread of the block has come to the same place; the number of them with a `value`.
unsigned meet_block(unsigned value, Place place);

// Waits until every lane of `mask` has come to the same place. A shuffle gives the value of lane `source`
// (all bits set where that lane is not in the mask), a ballot one bit a lane, a barrier 0.
uint64_t meet_warp(Kind kind, unsigned mask, uint64_t value, unsigned source, Place place);

// Shared memory of the running block: the same for all its threads that give the same key; all bits set.
void* shared_memory(const void* key, size_t bytes);

// The dynamic shared memory of the launch.
void* dynamic_memory();

// Whether a test takes away the barrier of this line (sslkernels_emulation_remove, machine.cpp).
bool removed(Place place);

// The same for a bound check that would have said no: true so many times in a launch, so that a loop
// whose bound is taken away ends.
bool forgotten(Place place);

}  // namespace sslkernels::emulation
