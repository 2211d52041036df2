"""marsexp's spaces and trainer in searches of your own, with Optuna or Keras Tuner; docs/libraries.md has examples."""
