#include "learn/optimizer.h"

#include "learn/name_pattern.h"
#include "learn/optimizer_graph.h"

namespace selvage::learn {
namespace {

class Updater {
 public:
  Updater(GraphBuilder& builder, const OptimizerOptions& options, Expression learning_rate)
      : builder_(builder), options_(options), learning_rate_(learning_rate) {}

  Result<void> update(Trained& parameter);
  std::vector<Slot> take_slots() { return std::move(slots_); }

 private:
  /// What differs between parameters.
  struct Settings {
    double decay = 0;
    Expression rate;
  };
  Settings settings_of(const std::string& name);

  /// A slot that begins with zeros; set its new value with store().
  Result<Expression> load(const std::string& kind, const Trained& parameter) {
    SELVAGE_TRY(auto zeros, Tensor::create(parameter.value.type(), parameter.value.shape()));
    return load(kind + "/" + parameter.name, std::move(zeros));
  }
  Result<Expression> load(std::string name, Tensor initial) {
    const auto value = builder_.declare("optimizer/" + name, initial.type(), initial.shape());
    slots_.push_back({std::move(name), value, {}, std::move(initial)});
    return value;
  }
  Expression store(Expression slot, Expression updated) {
    for (auto& known : slots_)
      if (known.value.name() == slot.name()) known.updated = updated;
    return updated;
  }
  /// decay * slot + (1 - decay) * x, stored.
  Expression smooth(Expression slot, double decay, Expression x) {
    return store(slot, slot * decay + x * (1 - decay));
  }
  Result<void> count_step();

  Result<Expression> sgd(const Trained& parameter, Expression gradient, Expression rate);
  Result<Expression> adam(const Trained& parameter, Expression gradient, Expression rate);
  Result<Expression> rms_prop(const Trained& parameter, Expression gradient, Expression rate);
  Result<Expression> adagrad(const Trained& parameter, Expression gradient, Expression rate);
  Result<Expression> lion(const Trained& parameter, Expression gradient, Expression rate);

  GraphBuilder& builder_;
  const OptimizerOptions& options_;
  Expression learning_rate_;
  std::vector<Slot> slots_;
  /// Adam's 1 - beta^t, once for all parameters.
  Expression correction1_, correction2_root_;
};

Updater::Settings Updater::settings_of(const std::string& name) {
  Settings settings{options_.weight_decay, learning_rate_};
  for (const auto& group : options_.groups) {
    if (!matches(name, group.pattern)) continue;
    settings.decay = group.weight_decay;
    settings.rate = learning_rate_ * static_cast<double>(group.learning_rate_scale);
    break;
  }
  return settings;
}

Result<void> Updater::count_step() {
  if (correction1_) return {};
  SELVAGE_TRY(auto zero, Tensor::create(DataType::kFloat32, {}));
  SELVAGE_TRY(const auto before, load("step", std::move(zero)));
  const auto step = store(before, before + 1.0);
  const auto correction = [&](double beta) {
    return 1.0 - binary("Pow", builder_.scalar(beta), step);
  };
  correction1_ = correction(options_.beta1);
  correction2_root_ = unary("Sqrt", correction(options_.beta2));
  return {};
}

Result<Expression> Updater::sgd(const Trained& p, Expression gradient, Expression rate) {
  const double momentum = options_.momentum;
  if (momentum == 0) return p.value - gradient * rate;
  SELVAGE_TRY(const auto slot, load("momentum", p));
  const auto velocity = store(slot, slot * momentum + gradient);
  return p.value - (options_.nesterov ? gradient + velocity * momentum : velocity) * rate;
}

Result<Expression> Updater::adam(const Trained& p, Expression gradient, Expression rate) {
  SELVAGE_RETURN_IF_ERROR(count_step());
  SELVAGE_TRY(const auto first, load("mean", p));
  SELVAGE_TRY(const auto second, load("square", p));
  const auto mean = smooth(first, options_.beta1, gradient);
  const auto square = smooth(second, options_.beta2, gradient * gradient);
  const auto root =
      unary("Sqrt", square) / correction2_root_ + static_cast<double>(options_.epsilon);
  return p.value - mean / root * (rate / correction1_);
}

Result<Expression> Updater::rms_prop(const Trained& p, Expression gradient, Expression rate) {
  SELVAGE_TRY(const auto slot, load("square", p));
  const auto square = smooth(slot, options_.alpha, gradient * gradient);
  auto step = gradient / (unary("Sqrt", square) + static_cast<double>(options_.epsilon));
  if (options_.momentum > 0) {
    SELVAGE_TRY(const auto velocity, load("momentum", p));
    step = store(velocity, velocity * static_cast<double>(options_.momentum) + step);
  }
  return p.value - step * rate;
}

Result<Expression> Updater::adagrad(const Trained& p, Expression gradient, Expression rate) {
  SELVAGE_TRY(const auto slot, load("square", p));
  const auto total = store(slot, slot + gradient * gradient);
  return p.value - gradient / (unary("Sqrt", total) + static_cast<double>(options_.epsilon)) * rate;
}

Result<Expression> Updater::lion(const Trained& p, Expression gradient, Expression rate) {
  SELVAGE_TRY(const auto slot, load("momentum", p));
  const double beta1 = options_.beta1;
  const auto direction = unary("Sign", slot * beta1 + gradient * (1 - beta1));
  smooth(slot, options_.beta2, gradient);
  return p.value - direction * rate;
}

Result<void> Updater::update(Trained& parameter) {
  builder_.set_prefix("update/" + parameter.name);
  const auto [decay, rate] = settings_of(parameter.name);
  const bool is_decoupled =
      options_.kind == OptimizerKind::kAdamW || options_.kind == OptimizerKind::kLion;
  auto gradient = parameter.gradient;
  Trained p = parameter;
  if (decay != 0 && is_decoupled) p.value = p.value - p.value * (rate * decay);
  if (decay != 0 && !is_decoupled) gradient = gradient + p.value * decay;
  const auto step = [&]() -> Result<Expression> {
    switch (options_.kind) {
      case OptimizerKind::kSgd: return sgd(p, gradient, rate);
      case OptimizerKind::kAdam:
      case OptimizerKind::kAdamW: return adam(p, gradient, rate);
      case OptimizerKind::kRmsProp: return rms_prop(p, gradient, rate);
      case OptimizerKind::kAdagrad: return adagrad(p, gradient, rate);
      case OptimizerKind::kLion: return lion(p, gradient, rate);
    }
    return fail(ErrorCode::kInternal, "an unknown optimiser");
  };
  SELVAGE_TRY(parameter.updated, step());
  return {};
}

/// As torch.nn.utils.clip_grad_norm_ does.
void clip_by_norm(GraphBuilder& builder, float limit, std::vector<Trained>& parameters) {
  builder.set_prefix("clip");
  std::vector<Expression> squares;
  for (const auto& parameter : parameters)
    squares.push_back(
        reshape(reduce("ReduceSumSquare",
                       reshape(parameter.gradient, {parameter.gradient.elements()}), {0}, false),
                {1}));
  const auto norm = unary("Sqrt", sum_all(concat(squares, 0)));
  const auto one = builder.scalar(1, norm.type());
  const auto scale = binary("Min", one, static_cast<double>(limit) / (norm + 1e-6));
  for (auto& parameter : parameters) parameter.gradient = parameter.gradient * scale;
}

Result<void> check(const OptimizerOptions& o) {
  const auto is_fraction = [](float value) { return value >= 0 && value < 1; };
  const auto require = [](bool holds, const char* what) -> Result<void> {
    if (holds) return {};
    return fail(ErrorCode::kInvalidArgument, std::string("optimiser: ") + what);
  };
  SELVAGE_RETURN_IF_ERROR(require(is_fraction(o.momentum), "0 <= momentum < 1"));
  SELVAGE_RETURN_IF_ERROR(require(is_fraction(o.beta1) && is_fraction(o.beta2), "0 <= beta < 1"));
  SELVAGE_RETURN_IF_ERROR(require(is_fraction(o.alpha), "0 <= alpha < 1"));
  SELVAGE_RETURN_IF_ERROR(require(is_fraction(o.average_decay), "0 <= average decay < 1"));
  SELVAGE_RETURN_IF_ERROR(require(o.epsilon > 0, "epsilon must be positive"));
  SELVAGE_RETURN_IF_ERROR(require(o.weight_decay >= 0, "weight decay must not be negative"));
  SELVAGE_RETURN_IF_ERROR(
      require(o.clip_norm >= 0 && o.clip_value >= 0, "limits must not be negative"));
  return require(!o.nesterov || o.momentum > 0, "Nesterov needs momentum");
}

}  // namespace

Result<std::vector<Slot>> add_updates(GraphBuilder& builder, const OptimizerOptions& options,
                                      std::vector<Trained>& parameters, Expression learning_rate) {
  SELVAGE_RETURN_IF_ERROR(check(options));
  if (options.clip_value > 0) {
    builder.set_prefix("clip");
    const auto limit = static_cast<double>(options.clip_value);
    const auto low = builder.scalar(-limit), high = builder.scalar(limit);
    for (auto& p : parameters)
      p.gradient =
          builder.node("Clip", {p.gradient, low, high}, {p.gradient.type(), p.gradient.shape()});
  }
  if (options.clip_norm > 0) clip_by_norm(builder, options.clip_norm, parameters);
  Updater updater(builder, options, learning_rate);
  for (auto& parameter : parameters) SELVAGE_RETURN_IF_ERROR(updater.update(parameter));
  return updater.take_slots();
}

}  // namespace selvage::learn
