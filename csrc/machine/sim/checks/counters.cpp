#include "checks/counters.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace rk::sim {

void Tally::add(const Tally& other) {
  for (uint32_t role = 0; role < kRoles; ++role) {
    global[role].requested += other.global[role].requested;
    global[role].useful += other.global[role].useful;
  }
  for (const auto& [site, traffic] : other.sites) {
    SiteTraffic& mine = sites[site];
    mine.shared += traffic.shared;
    mine.instructions += traffic.instructions;
    mine.requested += traffic.requested;
    mine.useful += traffic.useful;
  }
  macs += other.macs;
  steps += other.steps;
}

uint32_t sectors(const WarpAccess& access) {
  uint64_t
      found[64];  // an aligned access of at most 16 bytes lies in one sector, a copy's source in one as well
  uint32_t count = 0;
  bool sorted = true;
  for (uint32_t lanes = access.lanes; lanes != 0; lanes &= lanes - 1) {
    const int lane = std::countr_zero(lanes);
    if (access.bytes[lane] == 0) continue;
    const uint64_t sector = access.address[lane] / kSectorBytes;
    if (count != 0 && found[count - 1] == sector) continue;
    sorted = sorted && (count == 0 || found[count - 1] < sector);
    found[count++] = sector;
  }
  if (sorted) return count;
  std::sort(found, found + count);
  return static_cast<uint32_t>(std::unique(found, found + count) - found);
}

SharedTraffic wavefronts(const WarpAccess& access, uint32_t size) {
  const uint32_t lanes_per_phase = size == 16 ? 8 : size == 8 ? 16 : 32;
  SharedTraffic traffic = {.instructions = 1};
  for (uint32_t first = 0; first < 32; first += lanes_per_phase) {
    uint32_t words[32];  // distinct, 16 lanes of 8 bytes or 8 of 16 at most
    uint32_t count = 0;
    uint8_t load[32] = {};
    uint8_t most = 0;
    for (uint32_t lane = first; lane < first + lanes_per_phase; ++lane) {
      if (!(access.lanes >> lane & 1)) continue;
      const auto word = static_cast<uint32_t>(access.address[lane] / 4);
      for (uint32_t i = 0; i < std::max(1u, size / 4); ++i) {
        if (std::find(words, words + count, word + i) != words + count) continue;
        words[count++] = word + i;
        most = std::max(most, ++load[(word + i) % 32]);
      }
    }
    traffic.wavefronts += most;
    traffic.conflict_free += most != 0;
  }
  return traffic;
}

void Coalescer::begin(uint32_t warps) {
  warps_.resize(warps);
  for (WarpState& state : warps_) {
    for (uint32_t i = 0; i < state.used; ++i) state.pending[i].used = 0;
    state.used = 0;
  }
}

Coalescer::Pending& Coalescer::find(WarpState& state, SiteId site, SiteKind kind, uint32_t size) {
  const auto is_it = [&](const Pending& pending) { return pending.site == site && pending.kind == kind; };
  if (state.latest < state.used && is_it(state.pending[state.latest])) return state.pending[state.latest];
  for (uint32_t i = 0; i < state.used; ++i) {
    if (!is_it(state.pending[i])) continue;
    state.latest = i;
    return state.pending[i];
  }
  if (state.used == state.pending.size()) state.pending.emplace_back();
  state.latest = state.used++;
  Pending& pending = state.pending[state.latest];
  pending.site = site;
  pending.kind = kind;
  pending.size = size;
  pending.used = 0;
  std::memset(pending.turns, 0, sizeof pending.turns);
  return pending;
}

void Coalescer::record(uint32_t warp, uint32_t lane, SiteId site, SiteKind kind, uint32_t role,
                       uint64_t address, uint32_t bytes, uint32_t size) {
  Pending& pending = find(warps_[warp], site, kind, size);
  const uint32_t turn = pending.turns[lane]++;
  if (turn == pending.used) {
    ++pending.used;
    if (pending.accesses.size() < pending.used) {
      pending.accesses.emplace_back();
      pending.roles.emplace_back();
    }
    pending.accesses[turn].lanes = 0;
    pending.roles[turn] = static_cast<uint8_t>(role);
  }
  WarpAccess& access = pending.accesses[turn];
  access.lanes |= 1u << lane;
  access.address[lane] = address;
  access.bytes[lane] = static_cast<uint8_t>(bytes);
}

void Coalescer::flush(uint32_t warp, Tally& tally) {
  WarpState& state = warps_[warp];
  for (uint32_t i = 0; i < state.used; ++i) {
    Pending& pending = state.pending[i];
    SiteTraffic& site = tally.sites[pending.site];
    const bool shared = pending.kind == SiteKind::ld_shared || pending.kind == SiteKind::st_shared;
    for (uint32_t turn = 0; turn < pending.used; ++turn) {
      const WarpAccess& access = pending.accesses[turn];
      if (shared) {
        site.shared += wavefronts(access, pending.size);
        continue;
      }
      const uint32_t requested = sectors(access);
      uint64_t useful = 0;
      for (uint32_t lanes = access.lanes; lanes != 0; lanes &= lanes - 1)
        useful += access.bytes[std::countr_zero(lanes)];
      ++site.instructions;
      site.requested += requested;
      site.useful += useful;
      tally.global[pending.roles[turn]].requested += requested;
      tally.global[pending.roles[turn]].useful += useful;
    }
  }
  state.used = 0;
}

}  // namespace rk::sim
