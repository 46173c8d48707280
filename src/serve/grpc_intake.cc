#include "serve/grpc_intake.h"

namespace selvage::serve {
namespace {

thread_local GrpcIntake* of_this_thread = nullptr;

}  // namespace

void GrpcIntake::begin_on_this_thread() {
  of_this_thread = this;
}

bool GrpcIntake::admit() {
  GrpcIntake* const intake = of_this_thread;
  return !intake || intake->calls_.fetch_add(1, std::memory_order_relaxed) < kCallsMax;
}

}  // namespace selvage::serve
