// What wgmma and tensor maps call an element format.
#pragma once

#include "machine/matrix_operand.h"
#include "machine/tensor_map.h"
#include "tile/format.h"

namespace rk::sm90 {

template <class Format>
struct FormatTraits;
template <>
struct FormatTraits<tile::Bf16> {
  static constexpr machine::MatrixType kMatrix = machine::MatrixType::bf16;
  static constexpr machine::ElementType kElement = machine::ElementType::bf16;
};
template <>
struct FormatTraits<tile::F16> {
  static constexpr machine::MatrixType kMatrix = machine::MatrixType::f16;
  static constexpr machine::ElementType kElement = machine::ElementType::f16;
};

}  // namespace rk::sm90
