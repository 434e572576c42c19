"""The learner: chat tokens, engines, rollouts, AWPO and its trainer."""
