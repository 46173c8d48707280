// POST /v1/models/NAME:predict: a picture, a sound or a table in, the card's words out.
#include <mutex>
#include <utility>

#include "base/json_writer.h"
#include "infer/prediction_json.h"
#include "serve/card_input.h"
#include "serve/http_api.h"

namespace selvage::serve {
namespace {

// Predicts input after input: rows of a table keep their order, and one client never fills the
// queue.
class PredictCall : public std::enable_shared_from_this<PredictCall> {
 public:
  PredictCall(Services& services, std::string model, Body body,
              std::shared_ptr<HttpExchange> exchange)
      : services_(services),
        model_(std::move(model)),
        body_(std::move(body)),
        exchange_(std::move(exchange)),
        share_(services.bodies) {}

  void start() {
    if (left()) return refuse({ErrorCode::kCancelled, "the request was cancelled"});
    auto done = decode();
    if (!done) return refuse(std::move(done).error());
    if (inputs_.inputs.empty())
      return refuse({ErrorCode::kInvalidArgument, "the table has no rows"});
    next();
  }

  void refuse(Error error) {
    exchange_->reply([error = std::move(error)] { return error_reply(error); });
  }

  /// The client has left: the model is asked nothing more.
  void leave() {
    Cancel cancel;
    {
      const std::lock_guard lock(mutex_);
      left_ = true;
      cancel = std::exchange(cancel_, nullptr);
    }
    if (cancel) cancel();
  }

 private:
  Result<void> decode() {
    SELVAGE_TRY(const auto card, services_.backend.card(model_, ""));
    SELVAGE_RETURN_IF_ERROR(decode_card_inputs(*card, body_->bytes(), inputs_));
    body_.reset();
    return share_.add(memory_of(inputs_));
  }

  static std::uint64_t memory_of(const CardInputs& inputs) {
    std::uint64_t bytes = inputs.picture.bytes() + inputs.sound.samples.size() * sizeof(float);
    for (const auto& row : inputs.rows) bytes += row.size() * sizeof(double);
    return bytes;
  }

  void next() {
    infer::PredictionRequest request;
    request.model = model_;
    request.version = version_;
    const std::size_t number = predictions_.size() + 1;
    request.input = inputs_.inputs[number - 1];
    request.keepalive = shared_from_this();
    auto cancel = services_.backend.predict(
        std::move(request),
        [self = shared_from_this()](auto response) { self->take(std::move(response)); });
    {
      const std::lock_guard lock(mutex_);
      if (number < cancellable_) return;  // Answered already, and others are asked.
      cancellable_ = number;
      if (!left_) cancel_ = std::exchange(cancel, nullptr);
    }
    if (cancel) cancel();
  }

  [[nodiscard]] bool left() {
    const std::lock_guard lock(mutex_);
    return left_;
  }

  void take(Result<infer::PredictionResponse> response) {
    if (!response) return refuse(std::move(response).error());
    if (left()) return refuse({ErrorCode::kCancelled, "the request was cancelled"});
    version_ = std::move(response->version);  // All of a table's rows see the same model.
    predictions_.push_back(std::move(response->prediction));
    if (predictions_.size() < inputs_.inputs.size()) return next();
    exchange_->reply([self = shared_from_this()] { return self->encode(); });
  }

  HttpReply encode() const {
    JsonWriter json;
    json.begin_object().field("model_name", model_).field("model_version", version_);
    json.key("predictions").begin_array();
    for (const auto& prediction : predictions_) infer::write_json(prediction, json);
    json.end_array().end_object();
    HttpReply reply;
    reply.text = json.text();
    return reply;
  }

  Services& services_;
  const std::string model_;
  std::optional<Body> body_;
  const std::shared_ptr<HttpExchange> exchange_;
  CardInputs inputs_;
  std::string version_;
  std::vector<infer::Prediction> predictions_;
  BudgetShare share_;  // For inputs_.

  std::mutex mutex_;  // Guards the three below.
  bool left_ = false;
  Cancel cancel_;                // Of the input that was asked last,
  std::size_t cancellable_ = 0;  // which is this one.
};

}  // namespace

void handle_predict(Services& services, const Route& route, HttpRequest request,
                    std::shared_ptr<HttpExchange> exchange) {
  HttpExchange& client = *exchange;  // The call's from here on.
  auto call = std::make_shared<PredictCall>(services, route.name, std::move(request.body),
                                            std::move(exchange));
  client.on_leave([weak = std::weak_ptr(call)] {
    if (const auto left = weak.lock()) left->leave();
  });
  if (!services.decoding.submit([call] { call->start(); }))
    call->refuse(
        {ErrorCode::kUnavailable, "too many pictures wait to be decoded: try again later"});
}

}  // namespace selvage::serve
