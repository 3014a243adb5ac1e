#include "checks/shadow.h"

#include <algorithm>

namespace rk::sim {

void Shadow::begin(uint32_t base, uint32_t bytes, uint32_t threads, const Clocks& clocks) {
  base_ = base;
  threads_ = threads;
  clocks_ = &clocks;
  words_.assign((bytes + 3) / 4, Word{});
  many_.clear();
}

Conflict Shadow::against_writes(const Word& word, uint32_t halves, const Accessor& by, bool races) const {
  for (uint32_t half = 0; half < 2; ++half) {
    const Epoch& write = word.write[half];
    if ((halves >> half & 1) == 0 || write.clock == 0) continue;
    const auto conflict = [&](Conflict::Kind kind) { return Conflict{kind, 0, write.thread, write.site}; };
    if (write.clock == kMbarrier) return conflict(Conflict::mbarrier);
    if (!races) continue;
    if (write.clock == kUnfinished) return conflict(Conflict::unfinished_copy);
    if (!clocks_->before(write.thread, write.clock, by.thread)) return conflict(Conflict::unordered_write);
    if (by.proxy == Proxy::async && !clocks_->is_agent(write.thread) &&
        !clocks_->fenced_before(write.thread, write.clock, by.thread)) {
      return conflict(Conflict::unfenced_write);
    }
  }
  return {};
}

Conflict Shadow::against_reads(const Word& word, uint32_t halves, uint32_t thread) const {
  for (const Read& read : word.read) {
    if ((read.halves & halves) != 0 && !ordered(read.epoch, thread)) {
      const bool unfinished = read.epoch.clock == kUnfinished;
      return {unfinished ? Conflict::unfinished_read : Conflict::unordered_read, 0, read.epoch.thread,
              read.epoch.site};
    }
  }
  if (word.many == 0) return {};
  for (uint32_t half = 0; half < 2; ++half) {
    if ((halves >> half & 1) == 0) continue;
    for (const Epoch& epoch : many_[word.many - 1].last[half]) {
      if (epoch.clock != 0 && !ordered(epoch, thread)) {
        return {Conflict::unordered_read, 0, epoch.thread, epoch.site};
      }
    }
  }
  return {};
}

void Shadow::add_reader(Word& word, uint32_t halves, const Epoch& epoch) {
  // A read that is ordered before this one and touched no other half is implied by it.
  for (Read& read : word.read) {
    if ((read.halves & ~halves) == 0 && (read.halves == 0 || ordered(read.epoch, epoch.thread))) {
      read = {epoch, halves};
      return;
    }
  }
  if (word.many == 0) {
    many_.emplace_back();
    many_.back().last[0].resize(threads_);
    many_.back().last[1].resize(threads_);
    word.many = static_cast<uint32_t>(many_.size());
  }
  for (uint32_t half = 0; half < 2; ++half) {
    if (halves >> half & 1) many_[word.many - 1].last[half][epoch.thread] = epoch;
  }
}

// After a write that every earlier read is ordered before.
void Shadow::forget_readers(Word& word, uint32_t halves) {
  for (Read& read : word.read) read.halves &= ~halves;
  if (word.many == 0) return;
  for (uint32_t half = 0; half < 2; ++half) {
    auto& last = many_[word.many - 1].last[half];
    if (halves >> half & 1) std::fill(last.begin(), last.end(), Epoch{});
  }
}

Conflict Shadow::inspect(const Accessor& by, uint32_t address, uint32_t bytes, bool races) const {
  const uint32_t halves = halves_of(address, bytes);
  for (uint32_t at = address & ~3u; at < address + bytes; at += 4) {
    const Word& word = words_[(at - base_) / 4];
    for (uint32_t half = 0; half < 2; ++half) {
      if ((halves >> half & 1) && word.write[half].clock == 0) return {Conflict::uninitialised, at, 0, 0};
    }
    if (Conflict conflict = against_writes(word, halves, by, races)) {
      conflict.address = at;
      return conflict;
    }
  }
  return {};
}

Conflict Shadow::set_read(const Accessor& by, uint32_t address, uint32_t bytes, const Epoch& epoch,
                          bool races) {
  if (Conflict conflict = inspect(by, address, bytes, races)) return conflict;
  if (!races) return {};
  for (uint32_t at = address & ~3u; at < address + bytes; at += 4) {
    add_reader(words_[(at - base_) / 4], halves_of(address, bytes), epoch);
  }
  return {};
}

Conflict Shadow::read(const Accessor& by, uint32_t address, uint32_t bytes, bool races) {
  return set_read(by, address, bytes, epoch(by), races);
}

Conflict Shadow::begin_read(const Accessor& by, uint32_t address, uint32_t bytes, bool races) {
  return set_read(by, address, bytes, {kUnfinished, static_cast<uint16_t>(by.thread), by.site}, races);
}

void Shadow::end_read(const Accessor& by, uint32_t address, uint32_t bytes) {
  const auto end = [&](Epoch& read) {
    if (read.clock == kUnfinished && read.thread == by.thread) read = epoch(by);
  };
  for (uint32_t at = address & ~3u; at < address + bytes; at += 4) {
    Word& word = words_[(at - base_) / 4];
    for (Read& read : word.read) end(read.epoch);
    if (word.many == 0) continue;
    for (auto& last : many_[word.many - 1].last) end(last[by.thread]);
  }
}

Conflict Shadow::set_write(const Accessor& by, uint32_t address, uint32_t bytes, const Epoch& epoch,
                           bool races) {
  const uint32_t halves = halves_of(address, bytes);
  for (uint32_t at = address & ~3u; at < address + bytes; at += 4) {
    Word& word = words_[(at - base_) / 4];
    Conflict conflict = against_writes(word, halves, by, races);
    if (!conflict && races) conflict = against_reads(word, halves, by.thread);
    if (conflict) {
      conflict.address = at;
      return conflict;
    }
    if (races) forget_readers(word, halves);
    for (uint32_t half = 0; half < 2; ++half) {
      if (halves >> half & 1) word.write[half] = epoch;
    }
  }
  return {};
}

Conflict Shadow::write(const Accessor& by, uint32_t address, uint32_t bytes, bool races) {
  return set_write(by, address, bytes, epoch(by), races);
}

Conflict Shadow::begin_copy(const Accessor& by, uint32_t address, uint32_t bytes, bool races) {
  return set_write(by, address, bytes, {kUnfinished, static_cast<uint16_t>(by.thread), by.site}, races);
}

void Shadow::end_copy(uint32_t thread, uint32_t address, uint32_t bytes, uint32_t by, uint32_t clock,
                      SiteId site) {
  const Epoch epoch = {clock, static_cast<uint16_t>(by), site};
  for (uint32_t at = address & ~3u; at < address + bytes; at += 4) {
    for (Epoch& write : words_[(at - base_) / 4].write) {
      if (write.clock == kUnfinished && write.thread == thread) write = epoch;
    }
  }
}

Conflict Shadow::begin_mbarrier(const Accessor& by, uint32_t address, uint32_t bytes, bool races) {
  return set_write(by, address, bytes, {kMbarrier, static_cast<uint16_t>(by.thread), by.site}, races);
}

void Shadow::end_mbarrier(uint32_t address, uint32_t bytes) {
  for (uint32_t at = address; at < address + bytes; at += 4) words_[(at - base_) / 4] = Word{};
}

}  // namespace rk::sim
