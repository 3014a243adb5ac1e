// What the checked build knows of each 32-bit word of shared memory: who wrote each half last, who has read
// it since, and whether an asynchronous copy into it is still under way. The FastTrack algorithm (Flanagan,
// Freund, PLDI 2009): the last write is one epoch, the reads since are a few epochs, and a full vector only
// where many threads read.
#pragma once

#include <cstdint>
#include <vector>

#include "checks/clocks.h"
#include "checks/sites.h"

namespace rk::sim {

// What an access ran into.
struct Conflict {
  enum Kind : uint8_t { none, uninitialised, unfinished_copy, unordered_write, unordered_read };
  Kind kind = none;
  uint32_t address = 0;  // of the word
  uint32_t thread = 0;   // the other one
  SiteId site = 0;       // of the other access

  explicit operator bool() const { return kind != none; }
};

class Shadow {
 public:
  // A block begins: `bytes` of shared memory from address `base`, nothing written.
  void begin(uint32_t base, uint32_t bytes, uint32_t threads, const Clocks& clocks);

  // [address, address + bytes) is aligned to its size (2, 4, 8 or 16) and in bounds. With races = false only
  // uninitialised reads are told.
  Conflict read(uint32_t thread, uint32_t address, uint32_t bytes, SiteId site, bool races);
  Conflict write(uint32_t thread, uint32_t address, uint32_t bytes, SiteId site, bool races);

  // An asynchronous copy: nobody may touch its destination between its issue and the wait of the thread that
  // issued it.
  Conflict begin_copy(uint32_t thread, uint32_t address, uint32_t bytes, SiteId site, bool races);
  void end_copy(uint32_t thread, uint32_t address, uint32_t bytes, SiteId site);

 private:
  // thread and clock of an access; 0 is none, since clocks start at 1. `halves` are the 16-bit halves it
  // touched.
  struct Epoch {
    uint32_t clock = 0;
    uint16_t thread = 0;
    SiteId site = 0;
  };
  struct Read {
    Epoch epoch;
    uint32_t halves = 0;
  };
  static constexpr uint32_t kUnfinished = 0xffffffffu;  // the clock of a write that nothing is ordered after
  static constexpr int kReads = 4;
  struct Word {
    Epoch write[2];
    Read read[kReads];
    uint32_t many = 0;  // index + 1 into many_
  };
  // More readers than kReads: the last read of each thread, by half.
  struct Many {
    std::vector<Epoch> last[2];
  };

  static uint32_t halves_of(uint32_t address, uint32_t bytes) {
    return bytes >= 4 ? 3 : address % 4 == 0 ? 1 : 2;
  }
  bool ordered(const Epoch& epoch, uint32_t thread) const {
    return epoch.clock != kUnfinished && clocks_->before(epoch.thread, epoch.clock, thread);
  }
  Conflict against_writes(const Word& word, uint32_t halves, uint32_t thread) const;
  Conflict against_reads(const Word& word, uint32_t halves, uint32_t thread) const;
  void add_reader(Word& word, uint32_t halves, const Epoch& epoch);
  void forget_readers(Word& word, uint32_t halves);
  Conflict set_write(uint32_t thread, uint32_t address, uint32_t bytes, const Epoch& epoch, bool races);

  uint32_t base_ = 0;
  uint32_t threads_ = 0;
  const Clocks* clocks_ = nullptr;
  std::vector<Word> words_;
  std::vector<Many> many_;
};

}  // namespace rk::sim
