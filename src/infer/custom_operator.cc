#include "infer/custom_operator.h"

#include <string>

#include "base/exception.h"
#include "infer/custom_operator_ort.h"

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define __SANITIZE_THREAD__ 1  // As g++ says it.
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace selvage::infer {
namespace {

using ort::api;
using ort::to_result;

class Attributes final : public OperatorAttributes {
 public:
  explicit Attributes(const OrtKernelInfo* info) : info_(info) {}
  std::vector<std::int64_t> integers(const char* name) const override {
    std::size_t count = 0;
    if (!to_result(api().KernelInfoGetAttributeArray_int64(info_, name, nullptr, &count)))
      return {};
    std::vector<std::int64_t> values(count);
    if (!to_result(api().KernelInfoGetAttributeArray_int64(info_, name, values.data(), &count)))
      return {};
    return values;
  }
  float number(const char* name, float otherwise) const override {
    float value = otherwise;
    return to_result(api().KernelInfoGetAttribute_float(info_, name, &value)) ? value : otherwise;
  }

 private:
  const OrtKernelInfo* info_;
};

/// A task that the runtime's threads share. The thread sanitizer does not see these fork and join,
/// the runtime not being instrumented, and is told: what was before run() is before every call of
/// the task, and these before what comes after.
class SharedTask {
 public:
  SharedTask(void (*task)(void*, std::size_t), void* context) : task_(task), context_(context) {}

  Result<void> run(const OrtKernelContext* kernel, std::size_t count) {
    release(forked_);
    auto done =
        to_result(api().KernelContext_ParallelFor(kernel, &SharedTask::call, count, 0, this));
    acquire(joined_);
    return done;
  }

 private:
  static void call(void* self, std::size_t index) {
    auto& shared = *static_cast<SharedTask*>(self);
    acquire(shared.forked_);
    shared.task_(shared.context_, index);
    release(shared.joined_);
  }
  static void acquire([[maybe_unused]] char& point) {
#if defined(__SANITIZE_THREAD__)
    __tsan_acquire(&point);
#endif
  }
  static void release([[maybe_unused]] char& point) {
#if defined(__SANITIZE_THREAD__)
    __tsan_release(&point);
#endif
  }

  void (*task_)(void*, std::size_t);
  void* context_;
  char forked_ = 0, joined_ = 0;
};

class Call final : public OperatorCall {
 public:
  explicit Call(OrtKernelContext* context) : context_(context) {}

  std::size_t input_count() const override {
    std::size_t count = 0;
    return to_result(api().KernelContext_GetInputCount(context_, &count)) ? count : 0;
  }
  Result<Input> input(std::size_t index) override {
    const OrtValue* value = nullptr;
    SELVAGE_RETURN_IF_ERROR(to_result(api().KernelContext_GetInput(context_, index, &value)));
    OrtTensorTypeAndShapeInfo* raw = nullptr;
    SELVAGE_RETURN_IF_ERROR(to_result(api().GetTensorTypeAndShape(value, &raw)));
    const ort::Handle<OrtTensorTypeAndShapeInfo> info(raw);
    std::size_t rank = 0;
    SELVAGE_RETURN_IF_ERROR(to_result(api().GetDimensionsCount(info.get(), &rank)));
    Input input;
    input.shape.resize(rank);
    SELVAGE_RETURN_IF_ERROR(to_result(api().GetDimensions(info.get(), input.shape.data(), rank)));
    void* data = nullptr;
    // The C API has no other way to an input's elements; they are only read.
    SELVAGE_RETURN_IF_ERROR(
        to_result(api().GetTensorMutableData(const_cast<OrtValue*>(value), &data)));
    input.values = {static_cast<const float*>(data),
                    static_cast<std::size_t>(element_count(input.shape).value_or(0))};
    return input;
  }

  Result<std::span<float>> output(std::size_t index, const Shape& shape) override {
    OrtValue* value = nullptr;
    SELVAGE_RETURN_IF_ERROR(to_result(
        api().KernelContext_GetOutput(context_, index, shape.data(), shape.size(), &value)));
    void* data = nullptr;
    SELVAGE_RETURN_IF_ERROR(to_result(api().GetTensorMutableData(value, &data)));
    return std::span(static_cast<float*>(data),
                     static_cast<std::size_t>(element_count(shape).value_or(0)));
  }

 private:
  Result<void> run_parallel(std::size_t count, void (*task)(void*, std::size_t),
                            void* context) override {
    return SharedTask(task, context).run(context_, count);
  }
  OrtKernelContext* context_;
};

OrtStatus* to_status(const Result<void>& result) {
  return result ? nullptr
                : api().CreateStatus(ORT_RUNTIME_EXCEPTION, result.error().message.c_str());
}

}  // namespace

struct OperatorDomain::Entry {
  OrtCustomOp op = {};  ///< First: the runtime hands back a pointer to it.
  const CustomOperator* described = nullptr;

  explicit Entry(const CustomOperator& custom);
  static const CustomOperator& of(const OrtCustomOp* op) {
    return *reinterpret_cast<const Entry*>(op)->described;
  }
};

OperatorDomain::Entry::Entry(const CustomOperator& custom) : described(&custom) {
  op.version = ORT_API_VERSION;
  op.GetName = [](const OrtCustomOp* self) { return of(self).name; };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputTypeCount = [](const OrtCustomOp* self) { return of(self).inputs; };
  op.GetOutputTypeCount = [](const OrtCustomOp* self) { return of(self).outputs; };
  op.GetInputType = [](const OrtCustomOp*, std::size_t) {
    return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  };
  op.GetOutputType = op.GetInputType;
  op.GetInputCharacteristic = [](const OrtCustomOp*, std::size_t) { return INPUT_OUTPUT_REQUIRED; };
  op.GetOutputCharacteristic = op.GetInputCharacteristic;
  op.GetInputMemoryType = [](const OrtCustomOp*, std::size_t) { return OrtMemTypeDefault; };
  op.CreateKernelV2 = [](const OrtCustomOp* self, const OrtApi*, const OrtKernelInfo* info,
                         void** kernel) -> OrtStatus* {
    auto made =
        catch_to_result(ErrorCode::kInternal, [&] { return of(self).create(Attributes(info)); });
    if (!made) return to_status(std::unexpected(std::move(made).error()));
    *kernel = made->release();
    return nullptr;
  };
  op.KernelComputeV2 = [](void* kernel, OrtKernelContext* context) -> OrtStatus* {
    return to_status(catch_to_result(ErrorCode::kInternal, [&] {
      Call call(context);
      return static_cast<const OperatorKernel*>(kernel)->compute(call);
    }));
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<OperatorKernel*>(kernel); };
}

OperatorDomain::OperatorDomain() = default;
OperatorDomain::~OperatorDomain() {
  if (domain_ != nullptr) api().ReleaseCustomOpDomain(domain_);
}

Result<std::unique_ptr<OperatorDomain>> OperatorDomain::create(
    std::span<const CustomOperator* const> operators) {
  std::unique_ptr<OperatorDomain> domain(new OperatorDomain());
  const std::string name(kOperatorDomain);
  SELVAGE_RETURN_IF_ERROR(to_result(api().CreateCustomOpDomain(name.c_str(), &domain->domain_)));
  for (const auto* custom : operators) {
    domain->entries_.push_back(std::make_unique<Entry>(*custom));
    SELVAGE_RETURN_IF_ERROR(
        to_result(api().CustomOpDomain_Add(domain->domain_, &domain->entries_.back()->op)));
  }
  return domain;
}

Result<void> OperatorDomain::add_to(OrtSessionOptions* options) const {
  return to_result(api().AddCustomOpDomain(options, domain_));
}

}  // namespace selvage::infer
