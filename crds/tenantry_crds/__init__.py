"""The contract: one pydantic model per custom resource of the group ``tenantry.dev``.

The models are the source of ``crds/*.yaml``, of the chart's CRDs and of ``docs/reference/``; write those
anew with ``python -m tenantry_crds.generate``.
"""
