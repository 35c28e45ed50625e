_base_ = ['./student_teacher_runtime.py']

default_hooks = dict(
    match_monitor=dict(type='mmdense.PatchMatchMonitorHook', interval=50),
)
