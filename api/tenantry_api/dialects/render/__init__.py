"""The contract of the Render Control Plane."""
