"""Images and masks: loading, inspecting, cleaning, splitting, augmenting, batching."""
