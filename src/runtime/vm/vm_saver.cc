#include "runtime/vm/vm_saver.h"

#include <utility>

namespace sm {

VmSaver::~VmSaver() { end(Error(Code::kGone, "the VM has been stopped")); }

void VmSaver::save(SnapshotTarget target, bool stay_paused, OnSaved done) {
  add({std::move(target), stay_paused, std::move(done)});
}

void VmSaver::set_paused(bool paused, OnDone done) {
  add({std::nullopt, paused, [done = std::move(done)](Result<control::Done> result) {
         if (result) return done({});
         done(fail(std::move(result).error()));
       }});
}

void VmSaver::add(Task task) {
  if (over_) return task.done(fail(*over_));
  if (waiting_.size() >= kMaxWaiting) {
    return task.done(fail(Code::kLimit, "too many snapshots and pauses of one VM are waiting",
                          "wait for the ones before"));
  }
  waiting_.push_back(std::move(task));
  if (!current_) next();
}

void VmSaver::next() {
  if (over_ || waiting_.empty()) return;
  current_ = std::move(waiting_.front());
  waiting_.pop_front();
  paused_here_ = false;
  if (!current_->target) {
    ask_pause(current_->paused);
  } else if (current_->paused && !paused_) {
    paused_here_ = true;
    ask_pause(true);
  } else {
    begin_order();
  }
}

void VmSaver::ask_pause(bool paused) {
  pause_id_ = worker_.next_request_id();
  arm(kPauseLimit);
  worker_.request(control::PauseRequest{.id = pause_id_, .pause = paused});
}

void VmSaver::begin_order() {
  arm(kSaveLimit);
  auto order =
      SnapshotOrder::start(loop_, worker_, *current_->target,
                           [this](Result<control::Done> result) { on_order(std::move(result)); });
  if (!order) return complete(fail(std::move(order).error()));
  order_ = std::move(*order);
}

void VmSaver::on_done(const control::Done& done) {
  if (!current_) return;
  if (order_ && done.id == order_->id()) return order_->on_done(done);
  if (pause_id_ == 0 || done.id != pause_id_) return;
  pause_id_ = 0;
  if (current_->target) {
    paused_ = true;
    return begin_order();
  }
  paused_ = current_->paused;
  complete(done);
}

void VmSaver::on_refused(const control::Refused& refused) {
  if (!current_) return;
  if (order_ && refused.id == order_->id()) return order_->on_refused(refused);
  if (pause_id_ == 0 || refused.id != pause_id_) return;
  pause_id_ = 0;
  complete(fail(error_from(refused.why)));
}

void VmSaver::on_order(Result<control::Done> result) { complete(std::move(result)); }

void VmSaver::complete(Result<control::Done> result) {
  if (!current_) return;
  loop_.cancel_timer(std::exchange(timer_, TimerId::kNone));
  if (order_) {
    // Its callback is below us on the stack.
    loop_.post([order = std::shared_ptr<SnapshotOrder>(std::move(order_))] {});
  }
  pause_id_ = 0;
  if (!result && paused_here_) {
    paused_ = false;
    worker_.request(control::PauseRequest{.id = worker_.next_request_id(), .pause = false});
  }
  const OnSaved done = std::move(current_->done);
  current_.reset();
  next();
  done(std::move(result));
}

void VmSaver::arm(Duration limit) {
  loop_.cancel_timer(timer_);
  timer_ = loop_.add_timer(now() + limit, [this] {
    timer_ = TimerId::kNone;
    // What has been saved needs only the disk.
    if (order_) {
      if (auto result = order_->finish()) return complete(std::move(*result));
    }
    complete(fail(Code::kTimeout, "the VM's process did not save or pause it in time",
                  "see whether the host is overloaded"));
  });
}

void VmSaver::end(const Error& why) {
  if (over_) return;
  over_ = why;
  loop_.cancel_timer(std::exchange(timer_, TimerId::kNone));
  const Error error(why.code() == Code::kTimeout ? Code::kGone : why.code(),
                    "the VM ended before it was saved or paused: " + why.cause(), why.remedy());
  if (current_) {
    std::optional<Result<control::Done>> result;
    if (order_) result = order_->finish();
    order_.reset();
    const OnSaved done = std::move(current_->done);
    current_.reset();
    done(result ? std::move(*result) : fail(error));
  }
  for (Task& task : std::exchange(waiting_, {})) task.done(fail(error));
}

}  // namespace sm
