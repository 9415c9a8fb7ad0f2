# All rules: CIFAR-10 with a server trained from nothing, a local net that knows nine classes, and MNIST.
# needs: CIFAR-10; MNIST, a name or file that --dataset takes
# takes: 2 hours a seed on one core, 40 minutes for each of the three. SETTINGS names fewer
mnist=${MNIST:-mnist}
read -ra settings <<< "${SETTINGS:-cifar10 noniid mnist}"
need_data "$cifar10" CIFAR10
need_data "$mnist" MNIST
no_seeds_in_extra
edge="--edge_net convnet --epochs 8 --batch_size 64 --lr 0.05 --weight_decay 5e-4 --schedule cosine"
if [ "${FAST:-0}" = 1 ]; then edge=; else edge+=" --lr_rejector 0.02"; fi
for setting in "${settings[@]}"; do
  dataset=$cifar10 of_local= augment="--augment flip_crop"
  case $setting in
    cifar10) ;;
    noniid) of_local="--local_classes 0-8" ;;
    mnist) dataset=$mnist augment= ;;
    *) echo "error: SETTINGS: $setting is none of cifar10, noniid, mnist" >&2 && exit 2 ;;
  esac
  env DATASETS="$dataset" SEEDS="${seeds[*]}" EXTRA_LOCAL="$of_local ${EXTRA_LOCAL:-}" \
    EXTRA="$edge $augment --data_root $data_root ${EXTRA:-}" bash runs/compare.sh "$run/$setting"
done
files=("*-report.json") predictions=() # the scores of all rejectors would be 60 MB
tables=(all-rules)
