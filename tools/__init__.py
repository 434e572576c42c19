"""Built-in tool suites, loaded by name through `awpo_env.load_suite`."""
