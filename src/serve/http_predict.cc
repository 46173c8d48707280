// POST /v1/models/NAME:predict: a picture, a sound or a table in, the card's words out.
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
        exchange_(std::move(exchange)) {}

  void start() {
    auto done = decode();
    if (!done) return refuse(std::move(done).error());
    if (inputs_.inputs.empty())
      return refuse({ErrorCode::kInvalidArgument, "the table has no rows"});
    next();
  }

  void refuse(Error error) {
    exchange_->reply([error = std::move(error)] { return error_reply(error); });
  }

 private:
  Result<void> decode() {
    SELVAGE_TRY(const auto card, services_.backend.card(model_, ""));
    SELVAGE_RETURN_IF_ERROR(decode_card_inputs(*card, body_->bytes(), inputs_));
    body_.reset();
    return {};
  }

  void next() {
    infer::PredictionRequest request;
    request.model = model_;
    request.version = version_;
    request.input = inputs_.inputs[predictions_.size()];
    request.keepalive = shared_from_this();
    services_.backend.predict(std::move(request), [self = shared_from_this()](auto response) {
      self->take(std::move(response));
    });
  }

  void take(Result<infer::PredictionResponse> response) {
    if (!response) return refuse(std::move(response).error());
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
};

}  // namespace

void handle_predict(Services& services, const Route& route, HttpRequest request,
                    std::shared_ptr<HttpExchange> exchange) {
  auto call = std::make_shared<PredictCall>(services, route.name, std::move(request.body),
                                            std::move(exchange));
  if (!services.decoding.submit([call] { call->start(); }))
    call->refuse(
        {ErrorCode::kUnavailable, "too many pictures wait to be decoded: try again later"});
}

}  // namespace selvage::serve
