"""Where entities come from and the immutable view that workers get.

`declarative` reads and writes documents, `snapshot` is the view. Nothing here knows of plans, workers or HTTP.
"""
