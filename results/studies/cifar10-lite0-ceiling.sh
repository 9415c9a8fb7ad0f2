# How near rejectors come to the best estimates beside cifar10-lite0's server, by multiply-adds.
# needs: CIFAR-10; SERVER, the fine-tuned network of cifar10-lite0; timm
# takes: 50 minutes a seed on one core
need_data "$cifar10" CIFAR10
server=${SERVER:-results/runs/cifar10-lite0/server/$name-edgenet.pth}
need "$server" "set SERVER to server/cifar10-edgenet.pth in the run of: bash results/make.sh cifar10-lite0"
split="--val_size 2500 --rejector_val_size 2500" # the server's, which was trained on the rest
edge="--edge_net timm/tf_efficientnet_lite0 --edge_size 128 --edge_weights $server --epochs 0"
env DATASETS="$cifar10" SEEDS="${seeds[*]}" EXTRA_LOCAL="$split ${EXTRA_LOCAL:-}" \
  EXTRA="$edge $split --data_root $data_root ${EXTRA:-}" bash runs/ceiling.sh "$run"
files=("*-ceiling.png")
tables=(cifar10-lite0-ceiling)
