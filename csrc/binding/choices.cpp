// What resnet_kernels/tuning.py asks of the choice of configurations. None of it has a tensor.
#include <array>
#include <sstream>

#include "binding/tensors.h"

namespace rk::binding {
namespace {

constexpr const char* kOp = "tuning";

template <size_t kCount>
size_t place(const std::array<const char*, kCount>& names, const std::string& name) {
  size_t i = 0;
  while (i < kCount && name != names[i]) ++i;
  STD_TORCH_CHECK(i < kCount, kOp, ": unknown name '", name, "'");
  return i;
}

// dtype: "bfloat16", "float16", "float32" or "tf32". shape: the fields of ConvShape, in their order.
ConvTask task_of(const std::string& operation, const std::string& dtype, const Ints& shape,
                 int64_t multiprocessors) {
  constexpr std::array<const char*, 3> kOperations = {"fprop", "dgrad", "wgrad"};
  constexpr std::array<const char*, 4> kTypes = {"bfloat16", "float16", "float32", "tf32"};
  const size_t type = place(kTypes, dtype);
  STD_TORCH_CHECK(shape.size() == 13, kOp, ": a shape has 13 numbers");
  for (size_t i = 0; i < shape.size(); ++i) {
    const bool padding = i == 9 || i == 10;
    STD_TORCH_CHECK(shape[i] >= (padding ? 0 : 1), kOp, ": a shape's number ", i, " is ", shape[i]);
  }
  STD_TORCH_CHECK(multiprocessors >= 1, kOp, ": a GPU has multiprocessors");
  const ConvTask task = {.operation = static_cast<Operation>(place(kOperations, operation)),
                         .dtype = static_cast<DType>(type < 3 ? type : 2),
                         .tf32 = type == 3,
                         .shape = {.n = shape[0],
                                   .h = shape[1],
                                   .w = shape[2],
                                   .c = shape[3],
                                   .k = shape[4],
                                   .r = shape[5],
                                   .s = shape[6],
                                   .stride_h = shape[7],
                                   .stride_w = shape[8],
                                   .pad_h = shape[9],
                                   .pad_w = shape[10],
                                   .dilation_h = shape[11],
                                   .dilation_w = shape[12]},
                         .sm_count = multiprocessors};
  STD_TORCH_CHECK(task.shape.h + 2 * task.shape.pad_h > task.shape.dilation_h * (task.shape.r - 1) &&
                      task.shape.w + 2 * task.shape.pad_w > task.shape.dilation_w * (task.shape.s - 1),
                  kOp, ": the filter is larger than the padded image: ", describe(task.shape));
  return task;
}

// JSON: a list of ConvPrediction's fields.
std::string conv_choices(const std::string& operation, const std::string& dtype, const Ints& shape,
                         int64_t multiprocessors, int64_t capability, bool aligned_source, bool aligned_rest,
                         bool residual_view, const std::string& on_load) {
  constexpr std::array<const char*, 4> kOnLoad = {"nothing", "one", "two", "other"};
  const ConvTask task = task_of(operation, dtype, shape, multiprocessors);
  const auto made = static_cast<OnLoad>(place(kOnLoad, on_load));
  std::ostringstream json;
  json.precision(17);
  json << std::boolalpha;
  const char* separator = "[";
  for (const ConvPrediction& each : predict_conv(task, {aligned_source, aligned_rest, residual_view, made},
                                                 static_cast<int>(capability))) {
    json << separator << "{\"configuration\": \"" << each.configuration << "\", \"refused\": \""
         << each.refused << "\", \"chosen\": " << each.chosen << ", \"tiles\": " << each.tiles
         << ", \"waves\": " << each.waves << ", \"efficiency\": " << each.efficiency
         << ", \"memory\": " << each.memory << ", \"feed\": " << each.feed << ", \"math\": " << each.math
         << ", \"launches\": " << each.launches << ", \"seconds\": " << each.seconds << ", \"bound\": \""
         << each.bound << "\"}";
    separator = ", ";
  }
  return json.str() + "]";
}

void tune_conv(const std::string& operation, const std::string& dtype, const Ints& shape,
               int64_t multiprocessors, const std::string& configuration) {
  rk::tune_conv(task_of(operation, dtype, shape, multiprocessors), configuration);
}

void forget_tuned() { rk::forget_tuned(); }

std::string force_configuration(const std::string& configuration) {
  return rk::force_configuration(configuration);
}

RK_LIBRARY_IMPL(RK_NAMESPACE, CompositeExplicitAutograd, m) {
  m.impl("conv_choices", TORCH_BOX(&conv_choices));
  m.impl("tune_conv", TORCH_BOX(&tune_conv));
  m.impl("forget_tuned", TORCH_BOX(&forget_tuned));
  m.impl("force_configuration", TORCH_BOX(&force_configuration));
}

}  // namespace
}  // namespace rk::binding
