"""The command line ``tenantry``, also found as ``kubectl tenantry``.

``app`` and ``rollout_app`` say what can be typed, ``rollouts``, ``tenants``, ``diff`` and ``tokens`` do it through
``cluster``. What is printed comes from ``output``, ``board`` (a terminal) and ``lines`` (anything else).
"""
