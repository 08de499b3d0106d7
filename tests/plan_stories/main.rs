//! The planner's policy, told as stories: what is wanted and what was seen go in, and the steps
//! are compared as people read them. What must hold in every state is in `tests/plan_model/`.

mod evidence;
mod founding;
mod journeys;
mod observation;
mod order;
mod outage;
mod paper;
mod quorum;
mod simulated;
