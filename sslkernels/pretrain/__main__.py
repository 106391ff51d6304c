import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until main answers it: imports broken off have nothing to say

from sslkernels.pretrain.cli import main  # noqa: E402

status = main()
signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second one has nothing left to stop
sys.exit(status)
