"""The one-machine cluster: a real control plane, and a node that runs pods as processes."""
