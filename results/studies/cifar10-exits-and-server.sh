# Exits on a device and a server behind it: the base networks of cifar10-msdnet, then cifar10-lite0's server.
# needs: CIFAR-10; MSDNET, the run of cifar10-msdnet; SERVER, the fine-tuned network of cifar10-lite0; timm
# takes: 15 minutes a seed on one core
need_data "$cifar10" CIFAR10
no_seeds_in_extra
exits=${MSDNET:-results/runs/cifar10-msdnet}/exits/base
need "$exits" "set MSDNET to the run of: bash results/make.sh cifar10-msdnet"
server=${SERVER:-results/runs/cifar10-lite0/server/$name-edgenet.pth}
edge="--edge_only --edge_net timm/tf_efficientnet_lite0 --edge_size 128 --edge_weights $server --epochs 0"
if [ "${FAST:-0}" = 1 ]; then
  edge=
else
  need "$server" "set SERVER to server/cifar10-edgenet.pth in the run of: bash results/make.sh cifar10-lite0"
fi
env DATASETS="$cifar10" SEEDS="${seeds[*]}" EXITS="$exits" \
  EXTRA="$edge --data_root $data_root ${EXTRA:-}" \
  bash runs/exits-and-server.sh "$run"
for cost_1 in 1 1.25; do
  "$python" -m figures.exits_and_server "$run/joined/$name" --cost_1 "$cost_1" \
    --out "$run/cost_1-$cost_1"
done
files=("*-report.json" args.json "cost_1-*/*.csv" "cost_1-*/*.png") predictions=() # logits would be 14 MB
tables=(cifar10-exits-and-server cifar10-exits-and-server-1.25)
