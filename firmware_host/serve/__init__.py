"""A page to teach a device, and the interface for programs behind it (extra `serve`).

Only the command `serve` imports what needs Starlette and uvicorn.
"""
