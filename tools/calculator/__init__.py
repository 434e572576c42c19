"""Calculator suite: four stateless operations, the smallest example of a suite."""
